-- Names this database. It is made once, here, and goes with every copy and backup of the database. Hosts carry it too,
-- and obey only a database with their own id.
CREATE TABLE installation (
  only_row INTEGER PRIMARY KEY NOT NULL CHECK (only_row = 1),
  id TEXT NOT NULL
) STRICT;
-- A random UUID, version 4.
INSERT INTO installation (only_row, id)
SELECT 1, substr(digits, 1, 8) || '-' || substr(digits, 9, 4) || '-4' || substr(digits, 14, 3) || '-'
  || substr('89ab', 1 + abs(random() % 4), 1) || substr(digits, 18, 3) || '-' || substr(digits, 21, 12)
FROM (SELECT lower(hex(randomblob(16))) AS digits);

-- Tombstones: the only reason for which anything that a host holds is removed. Kept for longer than any host may be
-- away.
CREATE TABLE sandbox_tombstones (
  sandbox_id TEXT PRIMARY KEY NOT NULL,
  team_id TEXT NOT NULL,
  deleted_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX sandbox_tombstones_by_age ON sandbox_tombstones (deleted_at);

CREATE TABLE snapshot_tombstones (
  team_id TEXT NOT NULL,
  name TEXT NOT NULL,
  -- When the deleted snapshot was made: a newer one may have its name.
  created_at INTEGER NOT NULL,
  deleted_at INTEGER NOT NULL,
  PRIMARY KEY (team_id, name, created_at)
) STRICT, WITHOUT ROWID;
CREATE INDEX snapshot_tombstones_by_age ON snapshot_tombstones (deleted_at);

INSERT INTO sandbox_tombstones (sandbox_id, team_id, deleted_at)
SELECT id, team_id, last_updated FROM sandboxes WHERE status IN ('destroying', 'stopped', 'error');
INSERT INTO snapshot_tombstones (team_id, name, created_at, deleted_at)
SELECT team_id, name, created_at, last_updated FROM snapshots WHERE status = 'deleting';
