DROP TABLE snapshot_tombstones;
DROP TABLE sandbox_tombstones;
DROP TABLE installation;
