-- Names this database. It is made once, here, and goes with every copy and backup of the database. Hosts carry it too,
-- and obey only a database with their own id.
CREATE TABLE installation (
  only_row BIGINT PRIMARY KEY NOT NULL CHECK (only_row = 1),
  id UUID NOT NULL
);
INSERT INTO installation (only_row, id) VALUES (1, gen_random_uuid());

-- Tombstones: the only reason for which anything that a host holds is removed. Kept for longer than any host may be
-- away.
CREATE TABLE sandbox_tombstones (
  sandbox_id UUID PRIMARY KEY,
  team_id UUID NOT NULL,
  deleted_at TIMESTAMPTZ NOT NULL
);
CREATE INDEX sandbox_tombstones_by_age ON sandbox_tombstones (deleted_at);

CREATE TABLE snapshot_tombstones (
  team_id UUID NOT NULL,
  name TEXT COLLATE "C" NOT NULL,
  -- When the deleted snapshot was made: a newer one may have its name.
  created_at TIMESTAMPTZ NOT NULL,
  deleted_at TIMESTAMPTZ NOT NULL,
  PRIMARY KEY (team_id, name, created_at)
);
CREATE INDEX snapshot_tombstones_by_age ON snapshot_tombstones (deleted_at);

INSERT INTO sandbox_tombstones (sandbox_id, team_id, deleted_at)
SELECT id, team_id, last_updated FROM sandboxes WHERE status IN ('destroying', 'stopped', 'error');
INSERT INTO snapshot_tombstones (team_id, name, created_at, deleted_at)
SELECT team_id, name, created_at, last_updated FROM snapshots WHERE status = 'deleting';
