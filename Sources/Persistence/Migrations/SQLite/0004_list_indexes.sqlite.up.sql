-- Partial indexes: most sandboxes are finished, and most lists show unfinished ones.
CREATE INDEX sandboxes_alive_by_team ON sandboxes (team_id, created_at DESC, id DESC) WHERE status NOT IN ('stopped', 'error');
CREATE INDEX sandboxes_by_status ON sandboxes (team_id, status, created_at DESC, id DESC);
CREATE INDEX sandboxes_alive_by_age ON sandboxes (created_at DESC, id DESC) WHERE status NOT IN ('stopped', 'error');
