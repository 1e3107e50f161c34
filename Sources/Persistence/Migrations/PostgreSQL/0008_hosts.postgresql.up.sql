-- Hosts that control planes can reach, with the secret that authenticates both sides. Read access to this table permits
-- to command the hosts.
CREATE TABLE hosts (
  id UUID PRIMARY KEY NOT NULL,
  -- The HOST:PORT at which other control planes reach the host.
  address TEXT COLLATE "C" NOT NULL,
  secret BYTEA NOT NULL CHECK (length(secret) = 32),
  registered_at TIMESTAMPTZ NOT NULL,
  last_heartbeat TIMESTAMPTZ NOT NULL
);
