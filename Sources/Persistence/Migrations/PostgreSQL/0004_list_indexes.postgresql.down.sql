DROP INDEX sandboxes_alive_by_age;
DROP INDEX sandboxes_by_status;
DROP INDEX sandboxes_alive_by_team;
