-- The program whose change of the row was the last; NULL for changes from before.
ALTER TABLE sandboxes ADD COLUMN worker INTEGER;
ALTER TABLE snapshots ADD COLUMN worker INTEGER;
