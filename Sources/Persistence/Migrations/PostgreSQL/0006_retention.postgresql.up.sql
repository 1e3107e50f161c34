-- What is over is deleted some time later, the oldest first.
CREATE INDEX sandboxes_over ON sandboxes (last_updated) WHERE status IN ('stopped', 'error');
-- The filter that is asked for most.
CREATE INDEX audit_logs_by_action ON audit_logs (team_id, action, id DESC);

-- A bound like the others: NULL is the server's default.
ALTER TABLE teams ADD COLUMN max_snapshots BIGINT;

-- Those that were being made while their team was deleted came back from it.
UPDATE snapshots SET status = 'deleting', revision = revision + 1
WHERE status <> 'deleting' AND team_id IN (SELECT id FROM teams WHERE deleted_at IS NOT NULL);
