-- Hosts that control planes can reach, each with the secret that both prove to know. Whoever can read this table can command them.
CREATE TABLE hosts (
  id TEXT PRIMARY KEY NOT NULL,
  -- HOST:PORT at which other control planes reach it.
  address TEXT NOT NULL,
  secret BLOB NOT NULL CHECK (length(secret) = 32),
  registered_at INTEGER NOT NULL,
  last_heartbeat INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
