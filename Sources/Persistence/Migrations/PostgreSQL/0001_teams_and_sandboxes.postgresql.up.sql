-- The counterpart of SQLite's 0001. Text columns that are sorted compare by bytes, as in SQLite.

CREATE TABLE teams (
  id UUID PRIMARY KEY,
  name TEXT COLLATE "C" NOT NULL,
  created_at TIMESTAMPTZ NOT NULL
);

CREATE TABLE users (
  id UUID PRIMARY KEY,
  email TEXT COLLATE "C" NOT NULL UNIQUE,
  name TEXT COLLATE "C" NOT NULL,
  password_hash TEXT NOT NULL,
  is_admin BOOLEAN NOT NULL,
  created_at TIMESTAMPTZ NOT NULL
);

CREATE TABLE memberships (
  team_id UUID NOT NULL REFERENCES teams (id) ON DELETE CASCADE,
  user_id UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  role TEXT NOT NULL CHECK (role IN ('owner', 'admin', 'member')),
  is_default BOOLEAN NOT NULL,
  joined_at TIMESTAMPTZ NOT NULL,
  PRIMARY KEY (team_id, user_id)
);

CREATE INDEX memberships_by_user ON memberships (user_id, joined_at);

CREATE TABLE api_keys (
  id UUID PRIMARY KEY,
  team_id UUID NOT NULL REFERENCES teams (id) ON DELETE CASCADE,
  name TEXT COLLATE "C" NOT NULL,
  key_prefix TEXT NOT NULL,
  -- SHA-256 of the 40 hex digits; the key itself is not stored.
  key_hash BYTEA NOT NULL UNIQUE,
  created_by UUID REFERENCES users (id) ON DELETE SET NULL,
  created_at TIMESTAMPTZ NOT NULL,
  last_used TIMESTAMPTZ
);

CREATE INDEX api_keys_by_team ON api_keys (team_id, created_at);

CREATE TABLE sandboxes (
  id UUID PRIMARY KEY,
  team_id UUID NOT NULL REFERENCES teams (id),
  status TEXT COLLATE "C" NOT NULL,
  template TEXT COLLATE "C" NOT NULL,
  vcpus BIGINT NOT NULL,
  memory_mb BIGINT NOT NULL,
  disk_size_mb BIGINT NOT NULL,
  timeout_sec BIGINT NOT NULL,
  metadata JSONB NOT NULL,
  envs JSONB NOT NULL,
  network JSONB NOT NULL,
  is_secured BOOLEAN NOT NULL,
  host_id UUID,
  guest_ip TEXT,
  host_ip TEXT,
  isolation_vmm TEXT,
  isolation_accelerator TEXT,
  error TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  started_at TIMESTAMPTZ,
  last_active_at TIMESTAMPTZ,
  last_updated TIMESTAMPTZ NOT NULL
);

CREATE INDEX sandboxes_by_team ON sandboxes (team_id, created_at DESC, id DESC);
CREATE INDEX sandboxes_alive ON sandboxes (host_id) WHERE status NOT IN ('stopped', 'error');

CREATE TABLE audit_logs (
  id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  team_id UUID NOT NULL,
  actor_type TEXT COLLATE "C" NOT NULL,
  actor_id TEXT COLLATE "C" NOT NULL,
  action TEXT COLLATE "C" NOT NULL,
  target_type TEXT COLLATE "C" NOT NULL,
  target_id TEXT COLLATE "C" NOT NULL,
  outcome TEXT COLLATE "C" NOT NULL,
  source TEXT,
  created_at TIMESTAMPTZ NOT NULL
);

CREATE INDEX audit_logs_by_team ON audit_logs (team_id, id DESC);
