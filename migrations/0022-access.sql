-- depends: 0021-review
--
-- Access: roles as rows, several of a user; what waits for a second person; sessions that people can list; tokens; the
-- audit record with what was before and what is after.

CREATE TABLE roles (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- Of a system role: what it is called and what it grants stands in the program (web/access/rights.py).
    code text UNIQUE CHECK (code IN ('viewer', 'operator', 'administrator')),
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 64),
    rights text[] NOT NULL DEFAULT '{}',
    -- right -> minor units above which what it allows waits for a second person; 0: always.
    limits jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(limits) = 'object'),
    -- Granted for the legal entities in role_legal_entities alone, not for all.
    is_limited boolean NOT NULL DEFAULT false,
    version integer NOT NULL DEFAULT 1 CHECK (version > 0),
    changed_by text NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now(),
    CHECK (code IS NULL OR (rights = '{}' AND limits = '{}' AND NOT is_limited))
);
CREATE UNIQUE INDEX roles_name ON roles (lower(name));

CREATE TABLE role_legal_entities (
    role_id integer NOT NULL REFERENCES roles ON DELETE CASCADE,
    legal_entity_id integer NOT NULL REFERENCES legal_entities,
    PRIMARY KEY (role_id, legal_entity_id)
);

CREATE TABLE user_roles (
    user_id integer NOT NULL REFERENCES users,
    role_id integer NOT NULL REFERENCES roles,        -- a role that somebody has is not deleted
    given_by text NOT NULL,
    given_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, role_id)
);
CREATE INDEX user_roles_role ON user_roles (role_id);

INSERT INTO roles (code, name, changed_by) VALUES
    ('viewer', 'viewer', 'system:migration'), ('operator', 'operator', 'system:migration'),
    ('administrator', 'administrator', 'system:migration');
INSERT INTO user_roles (user_id, role_id, given_by)
SELECT u.id, r.id, 'system:migration' FROM users u JOIN roles r ON r.code = u.role;
ALTER TABLE users DROP COLUMN role;

-- Sessions are listed and ended by number; where from and in which browser they began.
ALTER TABLE sessions
    ADD COLUMN id bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    ADD COLUMN address text NOT NULL DEFAULT '' CHECK (length(address) <= 100),
    ADD COLUMN browser text NOT NULL DEFAULT '' CHECK (length(browser) <= 400),
    ADD COLUMN is_new_browser boolean NOT NULL DEFAULT false;

-- Of people, for the command and the API. Only the SHA-256 is kept; the prefix tells people which one it is.
CREATE TABLE tokens (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id integer NOT NULL REFERENCES users,
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
    prefix text NOT NULL UNIQUE CHECK (prefix ~ '^kpk_[0-9a-z]{8}$'),
    token_hash bytea NOT NULL UNIQUE CHECK (length(token_hash) = 32),
    rights text[] NOT NULL CHECK (cardinality(rights) > 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL CHECK (expires_at > created_at),
    last_used_at timestamptz,
    last_used_from text NOT NULL DEFAULT '',
    revoked_at timestamptz,
    revoked_by text,
    CHECK ((revoked_at IS NULL) = (revoked_by IS NULL))
);
CREATE INDEX tokens_user ON tokens (user_id, id);

-- What waits for a second person. It is done in the transaction that approves it, or not at all.
CREATE TABLE approvals (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL CHECK (kind ~ '^[a-z_]{1,40}$'),
    key text NOT NULL CHECK (length(key) BETWEEN 1 AND 200),           -- a key of a kind acts once
    arguments jsonb NOT NULL CHECK (jsonb_typeof(arguments) = 'object'),
    changes jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(changes) = 'object'),  -- fact -> [before, after]
    summary text NOT NULL CHECK (length(summary) BETWEEN 1 AND 500),   -- what will be done, in English
    asked_right text NOT NULL,                        -- which right who asked needs, still when it is approved
    right_name text NOT NULL,                         -- which right the second person needs
    object_kind text NOT NULL DEFAULT '',
    object_id text NOT NULL DEFAULT '',
    object_version text NOT NULL DEFAULT '',          -- when asked; another one later: asked again
    amount_minor bigint,
    currency text NOT NULL DEFAULT '',
    why text NOT NULL CHECK (length(why) BETWEEN 1 AND 500),
    asked_by text NOT NULL,
    asked_proof text NOT NULL CHECK (asked_proof IN ('password', 'token')),
    asked_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL CHECK (expires_at > asked_at),
    state text NOT NULL DEFAULT 'waiting'
        CHECK (state IN ('waiting', 'done', 'refused', 'withdrawn', 'expired', 'stale')),
    decided_by text,
    decided_proof text CHECK (decided_proof IN ('password', 'token', 'os')),
    decided_at timestamptz,
    decided_why text NOT NULL DEFAULT '' CHECK (length(decided_why) <= 500),
    result jsonb NOT NULL DEFAULT '{}',
    UNIQUE (kind, key),
    CHECK (num_nonnulls(decided_by, decided_proof, decided_at) = CASE state WHEN 'waiting' THEN 0 ELSE 3 END),
    CHECK ((amount_minor IS NULL) = (currency = '')),
    CONSTRAINT approvals_two_people CHECK (state <> 'done' OR (decided_by <> asked_by AND decided_proof <> 'os'))
);
CREATE INDEX approvals_waiting ON approvals (id) WHERE state = 'waiting';
CREATE INDEX approvals_asked ON approvals (asked_by, id);

CREATE FUNCTION decided_approval_stays() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    IF OLD.state <> 'waiting' OR NEW.state = 'waiting' THEN
        RAISE EXCEPTION 'approval % is % and stays so', OLD.id, OLD.state;
    END IF;
    IF (to_jsonb(OLD) - ARRAY['state', 'decided_by', 'decided_proof', 'decided_at', 'decided_why', 'result'])
       <> (to_jsonb(NEW) - ARRAY['state', 'decided_by', 'decided_proof', 'decided_at', 'decided_why', 'result']) THEN
        RAISE EXCEPTION 'approval % may only be decided: what was asked for stays', OLD.id;
    END IF;
    IF NEW.state = 'done' AND OLD.expires_at <= now() THEN
        RAISE EXCEPTION 'approval % has expired', OLD.id;
    END IF;
    NEW.decided_at := now();
    RETURN NEW;
END
$$;
REVOKE ALL ON FUNCTION decided_approval_stays() FROM PUBLIC;
CREATE TRIGGER approvals_stay BEFORE UPDATE ON approvals FOR EACH ROW EXECUTE FUNCTION decided_approval_stays();
CREATE TRIGGER approvals_kept BEFORE DELETE OR TRUNCATE ON approvals
    FOR EACH STATEMENT EXECUTE FUNCTION append_only();

-- Postings by hand that wait already go on waiting, and are approved as everything else is.
INSERT INTO approvals (kind, key, arguments, summary, asked_right, right_name, object_kind, object_id, amount_minor,
                       currency, why, asked_by, asked_proof, asked_at, expires_at)
SELECT 'money', r.key, jsonb_build_object('request', r.id, 'kind', r.kind),
       replace(r.kind, '_', '-') || ', account ' || a.number,
       CASE r.kind WHEN 'move' THEN 'money.move' WHEN 'refund' THEN 'money.refund' WHEN 'payout' THEN 'money.pay_out'
                   ELSE 'money.post' END,
       'money.approve', 'account', a.number, r.amount_minor, r.currency, r.why, r.requested_by, 'password',
       least(r.requested_at, now()), now() + interval '14 days'
FROM posting_requests r JOIN accounts a ON a.id = r.account_id WHERE r.state = 'pending' AND r.needs_second;

-- A token of a person proves as much as the password it was made with.
ALTER TABLE posting_requests
    DROP CONSTRAINT posting_requests_requested_proof_check, DROP CONSTRAINT posting_requests_decided_proof_check,
    DROP CONSTRAINT posting_requests_two_people,
    ADD CONSTRAINT posting_requests_requested_proof_check CHECK (requested_proof IN ('password', 'token', 'os')),
    ADD CONSTRAINT posting_requests_decided_proof_check CHECK (decided_proof IN ('password', 'token', 'os')),
    ADD CONSTRAINT posting_requests_two_people CHECK (
        NOT needs_second OR (requested_proof <> 'os'
                             AND (state <> 'posted' OR (decided_by <> requested_by AND decided_proof <> 'os'))));

-- Facts that changed, as [before, after]; the request or command that did it.
ALTER TABLE audit
    ADD COLUMN changes jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(changes) = 'object'),
    ADD COLUMN request_id text NOT NULL DEFAULT '' CHECK (length(request_id) <= 64);
CREATE INDEX audit_words ON audit USING gin (jsonb_to_tsvector('simple', detail || changes, '["all"]'));
CREATE INDEX audit_request ON audit (request_id) WHERE request_id <> '';

-- As in 0010: the program chooses neither numbers nor times, and changes of what was asked only what is decided of it.
GRANT SELECT, INSERT (name, rights, limits, is_limited, changed_by),
    UPDATE (name, rights, limits, is_limited, version, changed_by, changed_at), DELETE ON roles TO kopeck_app;
GRANT SELECT, INSERT, DELETE ON role_legal_entities TO kopeck_app;
GRANT SELECT, INSERT (user_id, role_id, given_by), DELETE ON user_roles TO kopeck_app;
GRANT SELECT, INSERT (user_id, name, prefix, token_hash, rights, expires_at),
    UPDATE (last_used_at, last_used_from, revoked_at, revoked_by) ON tokens TO kopeck_app;
GRANT SELECT, INSERT (kind, key, arguments, changes, summary, asked_right, right_name, object_kind, object_id,
    object_version, amount_minor, currency, why, asked_by, asked_proof, expires_at),
    UPDATE (state, decided_by, decided_proof, decided_why, result) ON approvals TO kopeck_app;
GRANT INSERT (changes, request_id) ON audit TO kopeck_app;
