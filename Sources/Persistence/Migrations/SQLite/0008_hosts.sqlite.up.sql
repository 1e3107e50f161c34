-- Hosts that control planes can reach, with the secret that authenticates both sides. Read access to this table permits
-- to command the hosts.
CREATE TABLE hosts (
  id TEXT PRIMARY KEY NOT NULL,
  -- The HOST:PORT at which other control planes reach the host.
  address TEXT NOT NULL,
  secret BLOB NOT NULL CHECK (length(secret) = 32),
  registered_at INTEGER NOT NULL,
  last_heartbeat INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
