-- The worker that changed the row last; NULL for changes before this migration.
ALTER TABLE sandboxes ADD COLUMN worker INTEGER;
ALTER TABLE snapshots ADD COLUMN worker INTEGER;
