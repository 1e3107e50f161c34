-- Ids are lower-case UUIDs without a prefix; times are microseconds since 1970-01-01 UTC.

CREATE TABLE teams (
  id TEXT PRIMARY KEY NOT NULL,
  name TEXT NOT NULL,
  created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE users (
  id TEXT PRIMARY KEY NOT NULL,
  email TEXT NOT NULL UNIQUE,
  name TEXT NOT NULL,
  password_hash TEXT NOT NULL,
  is_admin INTEGER NOT NULL CHECK (is_admin IN (0, 1)),
  created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE memberships (
  team_id TEXT NOT NULL REFERENCES teams (id) ON DELETE CASCADE,
  user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  role TEXT NOT NULL CHECK (role IN ('owner', 'admin', 'member')),
  is_default INTEGER NOT NULL CHECK (is_default IN (0, 1)),
  joined_at INTEGER NOT NULL,
  PRIMARY KEY (team_id, user_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX memberships_by_user ON memberships (user_id, joined_at);

CREATE TABLE api_keys (
  id TEXT PRIMARY KEY NOT NULL,
  team_id TEXT NOT NULL REFERENCES teams (id) ON DELETE CASCADE,
  name TEXT NOT NULL,
  key_prefix TEXT NOT NULL,
  -- SHA-256 of the 40 hex digits; the key itself is not stored.
  key_hash BLOB NOT NULL UNIQUE,
  created_by TEXT REFERENCES users (id) ON DELETE SET NULL,
  created_at INTEGER NOT NULL,
  last_used INTEGER
) STRICT, WITHOUT ROWID;

CREATE INDEX api_keys_by_team ON api_keys (team_id, created_at);

CREATE TABLE sandboxes (
  id TEXT PRIMARY KEY NOT NULL,
  team_id TEXT NOT NULL REFERENCES teams (id),
  status TEXT NOT NULL,
  template TEXT NOT NULL,
  vcpus INTEGER NOT NULL,
  memory_mb INTEGER NOT NULL,
  disk_size_mb INTEGER NOT NULL,
  timeout_sec INTEGER NOT NULL,
  metadata TEXT NOT NULL,
  envs TEXT NOT NULL,
  network TEXT NOT NULL,
  is_secured INTEGER NOT NULL CHECK (is_secured IN (0, 1)),
  host_id TEXT,
  guest_ip TEXT,
  host_ip TEXT,
  isolation_vmm TEXT,
  isolation_accelerator TEXT,
  error TEXT,
  created_at INTEGER NOT NULL,
  started_at INTEGER,
  last_active_at INTEGER,
  last_updated INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX sandboxes_by_team ON sandboxes (team_id, created_at DESC, id DESC);
CREATE INDEX sandboxes_alive ON sandboxes (host_id) WHERE status NOT IN ('stopped', 'error');

CREATE TABLE audit_logs (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  team_id TEXT NOT NULL,
  actor_type TEXT NOT NULL,
  actor_id TEXT NOT NULL,
  action TEXT NOT NULL,
  target_type TEXT NOT NULL,
  target_id TEXT NOT NULL,
  outcome TEXT NOT NULL,
  source TEXT,
  created_at INTEGER NOT NULL
) STRICT;

CREATE INDEX audit_logs_by_team ON audit_logs (team_id, id DESC);
