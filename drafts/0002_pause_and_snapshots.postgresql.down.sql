DROP TABLE snapshots;
ALTER TABLE sandboxes DROP COLUMN revision;
ALTER TABLE sandboxes DROP COLUMN is_auto_paused;
ALTER TABLE sandboxes DROP COLUMN auto_resume;
