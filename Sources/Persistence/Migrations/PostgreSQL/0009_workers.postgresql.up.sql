-- The program whose change of the row was the last; NULL for changes from before.
ALTER TABLE sandboxes ADD COLUMN worker BIGINT;
ALTER TABLE snapshots ADD COLUMN worker BIGINT;
