ALTER TABLE sandboxes ADD COLUMN auto_resume INTEGER NOT NULL DEFAULT 0 CHECK (auto_resume IN (0, 1));
ALTER TABLE sandboxes ADD COLUMN is_auto_paused INTEGER NOT NULL DEFAULT 0 CHECK (is_auto_paused IN (0, 1));
-- Counts the transitions of a row: a decision about an old state must not be applied to a newer one that looks the same.
ALTER TABLE sandboxes ADD COLUMN revision INTEGER NOT NULL DEFAULT 0;

CREATE TABLE snapshots (
  team_id TEXT NOT NULL REFERENCES teams (id) ON DELETE CASCADE,
  name TEXT NOT NULL,
  status TEXT NOT NULL CHECK (status IN ('creating', 'ready', 'replacing', 'deleting')),
  vcpus INTEGER NOT NULL,
  memory_mb INTEGER NOT NULL,
  disk_size_mb INTEGER NOT NULL,
  size_bytes INTEGER NOT NULL,
  -- The host that stores the files.
  host_id TEXT NOT NULL,
  -- The sandbox that was captured; it may no longer exist.
  source_id TEXT,
  created_at INTEGER NOT NULL,
  last_updated INTEGER NOT NULL,
  revision INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (team_id, name)
) STRICT, WITHOUT ROWID;

CREATE INDEX snapshots_by_host ON snapshots (host_id);
