-- The running sandboxes of each team, once a minute; there is no row for a minute without any.
CREATE TABLE usage_samples (
  team_id TEXT NOT NULL REFERENCES teams (id) ON DELETE CASCADE,
  taken_at INTEGER NOT NULL,
  running INTEGER NOT NULL,
  vcpus INTEGER NOT NULL,
  memory_mb INTEGER NOT NULL,
  PRIMARY KEY (team_id, taken_at)
) STRICT, WITHOUT ROWID;

CREATE INDEX usage_samples_by_age ON usage_samples (taken_at);
