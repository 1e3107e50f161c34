-- The running sandboxes of each team, once a minute; there is no row for a minute without any.
CREATE TABLE usage_samples (
  team_id UUID NOT NULL REFERENCES teams (id) ON DELETE CASCADE,
  taken_at TIMESTAMPTZ NOT NULL,
  running BIGINT NOT NULL,
  vcpus BIGINT NOT NULL,
  memory_mb BIGINT NOT NULL,
  PRIMARY KEY (team_id, taken_at)
);

CREATE INDEX usage_samples_by_age ON usage_samples (taken_at);
