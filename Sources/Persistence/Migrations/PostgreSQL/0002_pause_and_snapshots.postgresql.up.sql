ALTER TABLE sandboxes ADD COLUMN auto_resume BOOLEAN NOT NULL DEFAULT false;
ALTER TABLE sandboxes ADD COLUMN is_auto_paused BOOLEAN NOT NULL DEFAULT false;
-- Counts the transitions of a row: a decision about an old state must not be applied to a newer one that looks the same.
ALTER TABLE sandboxes ADD COLUMN revision BIGINT NOT NULL DEFAULT 0;

CREATE TABLE snapshots (
  team_id UUID NOT NULL REFERENCES teams (id) ON DELETE CASCADE,
  name TEXT COLLATE "C" NOT NULL,
  status TEXT COLLATE "C" NOT NULL CHECK (status IN ('creating', 'ready', 'replacing', 'deleting')),
  vcpus BIGINT NOT NULL,
  memory_mb BIGINT NOT NULL,
  disk_size_mb BIGINT NOT NULL,
  size_bytes BIGINT NOT NULL,
  -- The host that stores the files.
  host_id UUID NOT NULL,
  -- The sandbox that was captured; it may no longer exist.
  source_id UUID,
  created_at TIMESTAMPTZ NOT NULL,
  last_updated TIMESTAMPTZ NOT NULL,
  revision BIGINT NOT NULL DEFAULT 0,
  PRIMARY KEY (team_id, name)
);

CREATE INDEX snapshots_by_host ON snapshots (host_id);
