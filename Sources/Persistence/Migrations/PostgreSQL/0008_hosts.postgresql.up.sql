-- Hosts that control planes can reach, each with the secret that both prove to know. Whoever can read this table can command them.
CREATE TABLE hosts (
  id UUID PRIMARY KEY NOT NULL,
  -- HOST:PORT at which other control planes reach it.
  address TEXT COLLATE "C" NOT NULL,
  secret BYTEA NOT NULL CHECK (length(secret) = 32),
  registered_at TIMESTAMPTZ NOT NULL,
  last_heartbeat TIMESTAMPTZ NOT NULL
);
