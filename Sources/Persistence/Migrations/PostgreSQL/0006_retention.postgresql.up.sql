-- Finished sandboxes are deleted after the retention time, oldest first.
CREATE INDEX sandboxes_over ON sandboxes (last_updated) WHERE status IN ('stopped', 'error');
-- The most frequent filter.
CREATE INDEX audit_logs_by_action ON audit_logs (team_id, action, id DESC);

-- A quota like the others; NULL means the server's default.
ALTER TABLE teams ADD COLUMN max_snapshots BIGINT;

-- Deletes snapshots that were being created while their team was deleted, and became visible again.
UPDATE snapshots SET status = 'deleting', revision = revision + 1
WHERE status <> 'deleting' AND team_id IN (SELECT id FROM teams WHERE deleted_at IS NOT NULL);
