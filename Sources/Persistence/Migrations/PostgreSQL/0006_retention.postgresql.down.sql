ALTER TABLE teams DROP COLUMN max_snapshots;
DROP INDEX audit_logs_by_action;
DROP INDEX sandboxes_over;
