ALTER TABLE snapshots DROP COLUMN worker;
ALTER TABLE sandboxes DROP COLUMN worker;
