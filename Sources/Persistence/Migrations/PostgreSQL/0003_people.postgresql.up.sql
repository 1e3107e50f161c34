-- Sessions carry this number; incrementing it ends all of a user's sessions.
ALTER TABLE users ADD COLUMN session_epoch BIGINT NOT NULL DEFAULT 0;

CREATE INDEX users_by_age ON users (created_at, id);

-- A deleted team keeps its row for the audit log and for sandboxes that are being destroyed; members and keys are deleted.
ALTER TABLE teams ADD COLUMN deleted_at TIMESTAMPTZ;
-- Upper bounds on what a team holds at once; NULL means the server's default.
ALTER TABLE teams ADD COLUMN max_sandboxes BIGINT;
ALTER TABLE teams ADD COLUMN max_vcpus BIGINT;
ALTER TABLE teams ADD COLUMN max_memory_mb BIGINT;
ALTER TABLE teams ADD COLUMN max_disk_mb BIGINT;

CREATE INDEX teams_by_age ON teams (created_at, id);
CREATE INDEX api_keys_by_creator ON api_keys (created_by, team_id);
CREATE INDEX sandboxes_by_age ON sandboxes (created_at DESC, id DESC);

CREATE TABLE idempotency_keys (
  team_id UUID NOT NULL REFERENCES teams (id) ON DELETE CASCADE,
  idempotency_key TEXT NOT NULL,
  -- SHA-256 of the request.
  request_hash BYTEA NOT NULL,
  sandbox_id UUID NOT NULL,
  created_at TIMESTAMPTZ NOT NULL,
  PRIMARY KEY (team_id, idempotency_key)
);

CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at);
