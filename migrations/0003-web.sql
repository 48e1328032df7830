-- depends: 0002-payments
--
-- People: who may sign in, their sessions, and the record of what they saw and did.

CREATE TABLE users (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    login text NOT NULL UNIQUE CHECK (login ~ '^[a-z0-9][a-z0-9._@-]{1,63}$'),
    password_hash text NOT NULL CHECK (password_hash LIKE '$argon2id$%'),
    -- Given by an administrator: the owner must replace it before he sees anything.
    password_is_temporary boolean NOT NULL DEFAULT false,
    role text NOT NULL CHECK (role IN ('viewer', 'operator', 'administrator')),
    state text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'disabled')),
    -- Sign-ins begun since the last success; raised before the password is looked at, so guesses made at once count too.
    failed_count integer NOT NULL DEFAULT 0 CHECK (failed_count >= 0),
    locked_until timestamptz,
    locale text CHECK (locale IN ('ru', 'en')),      -- null: what the browser asks for
    created_at timestamptz NOT NULL DEFAULT now(),
    signed_in_at timestamptz
);

-- Only the SHA-256 of the cookie's token is kept: a stolen copy of the table opens no session.
CREATE TABLE sessions (
    token_hash bytea PRIMARY KEY CHECK (length(token_hash) = 32),
    user_id integer NOT NULL REFERENCES users,
    csrf text NOT NULL CHECK (length(csrf) >= 32),
    notice jsonb,                                     -- one message for the next page, then gone
    created_at timestamptz NOT NULL DEFAULT now(),
    seen_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL CHECK (expires_at > created_at)
);
CREATE INDEX sessions_user ON sessions (user_id);
CREATE INDEX sessions_expiry ON sessions (expires_at);

CREATE TABLE audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT now(),
    actor text NOT NULL,                              -- user:LOGIN, anonymous, system:WHAT
    action text NOT NULL,
    object_kind text NOT NULL DEFAULT '',             -- payment, partner, user; empty: the list itself
    object_id text NOT NULL DEFAULT '',
    detail jsonb NOT NULL DEFAULT '{}',
    remote_ip text NOT NULL DEFAULT ''
);
CREATE INDEX audit_at ON audit (at, id);
CREATE INDEX audit_actor ON audit (actor, id);
CREATE INDEX audit_object ON audit (object_kind, object_id, id);
CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION append_only();

GRANT SELECT, INSERT, UPDATE (password_hash, password_is_temporary, role, state, failed_count, locked_until, locale,
    signed_in_at) ON users TO kopeck_app;
GRANT SELECT, INSERT, UPDATE (notice, seen_at), DELETE ON sessions TO kopeck_app;
GRANT SELECT, INSERT ON audit TO kopeck_app;
