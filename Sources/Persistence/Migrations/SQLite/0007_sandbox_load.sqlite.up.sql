-- The load of each running sandbox, once a minute; one sample per quarter of an hour is retained longer.
CREATE TABLE sandbox_load (
  sandbox_id TEXT NOT NULL REFERENCES sandboxes (id) ON DELETE CASCADE,
  taken_at INTEGER NOT NULL,
  cpu_millipercent INTEGER NOT NULL,
  memory_bytes INTEGER NOT NULL,
  memory_total_bytes INTEGER NOT NULL,
  disk_bytes INTEGER NOT NULL,
  disk_total_bytes INTEGER NOT NULL,
  is_quarterly INTEGER NOT NULL,
  PRIMARY KEY (sandbox_id, taken_at)
) STRICT, WITHOUT ROWID;

CREATE INDEX sandbox_load_by_age ON sandbox_load (is_quarterly, taken_at);
