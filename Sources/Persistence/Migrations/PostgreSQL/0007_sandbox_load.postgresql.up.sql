-- The load of each running sandbox, once a minute; one sample per quarter of an hour is retained longer.
CREATE TABLE sandbox_load (
  sandbox_id UUID NOT NULL REFERENCES sandboxes (id) ON DELETE CASCADE,
  taken_at TIMESTAMPTZ NOT NULL,
  cpu_millipercent BIGINT NOT NULL,
  memory_bytes BIGINT NOT NULL,
  memory_total_bytes BIGINT NOT NULL,
  disk_bytes BIGINT NOT NULL,
  disk_total_bytes BIGINT NOT NULL,
  is_quarterly BOOLEAN NOT NULL,
  PRIMARY KEY (sandbox_id, taken_at)
);

CREATE INDEX sandbox_load_by_age ON sandbox_load (is_quarterly, taken_at);
