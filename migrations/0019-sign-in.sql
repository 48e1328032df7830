-- depends: 0018-dunning
--
-- Signing in: strangers slow themselves down and cannot close a login to its owner.

-- Tries at signing in that failed, counted per scope: key is the SHA-256 of (login, address), of an address, of a login,
-- or of a session that asks for its own password. Unknown logins are counted like known ones. Rows older than the
-- window of web/access/throttle.py mean nothing and are deleted as new ones come.
CREATE TABLE sign_in_tries (
    scope text NOT NULL CHECK (scope IN ('pair', 'address', 'login', 'session')),
    key bytea NOT NULL CHECK (length(key) = 32),
    tries integer NOT NULL CHECK (tries > 0),
    last_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (scope, key)
);
CREATE INDEX sign_in_tries_age ON sign_in_tries (last_at);

-- Browsers in which a user signed in before: what strangers do from elsewhere does not count there. Only the SHA-256 of
-- the cookie's token is kept.
CREATE TABLE known_browsers (
    token_hash bytea PRIMARY KEY CHECK (length(token_hash) = 32),
    user_id integer NOT NULL REFERENCES users,
    failures integer NOT NULL DEFAULT 0 CHECK (failures >= 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    seen_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX known_browsers_user ON known_browsers (user_id, seen_at);

ALTER TABLE users DROP COLUMN failed_count, DROP COLUMN locked_until;
-- A temporary password serves for some days only.
ALTER TABLE users ADD COLUMN password_set_at timestamptz NOT NULL DEFAULT now();

GRANT SELECT, INSERT, UPDATE (tries, last_at), DELETE ON sign_in_tries TO kopeck_app;
GRANT SELECT, INSERT, UPDATE (failures, seen_at), DELETE ON known_browsers TO kopeck_app;
GRANT UPDATE (password_set_at) ON users TO kopeck_app;
