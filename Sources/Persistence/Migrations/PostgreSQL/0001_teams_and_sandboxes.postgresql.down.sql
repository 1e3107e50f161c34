DROP TABLE audit_logs;
DROP TABLE sandboxes;
DROP TABLE api_keys;
DROP TABLE memberships;
DROP TABLE users;
DROP TABLE teams;
