-- depends: 0009-customers
--
-- Attempts of callers that proved nothing are counted together, and old attempts are deleted by age alone.

-- How many calls the row stands for: those of one address and reason within a minute, over what is kept in full.
ALTER TABLE attempts ADD COLUMN calls integer NOT NULL DEFAULT 1 CHECK (calls > 0);

-- As in 0010-guards, for a tree that does not have it yet.
REVOKE DELETE ON attempts FROM kopeck_app;
CREATE OR REPLACE FUNCTION forget_attempts(before timestamptz, most integer) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    gone bigint;
BEGIN
    IF before IS NULL OR before > now() - interval '30 days' THEN
        RAISE EXCEPTION 'attempts are kept for 30 days at least; % is later', coalesce(before::text, 'no time');
    END IF;
    DELETE FROM public.attempts
    WHERE id = ANY (ARRAY(SELECT a.id FROM public.attempts a WHERE a.at < before ORDER BY a.at, a.id LIMIT most));
    GET DIAGNOSTICS gone = ROW_COUNT;
    RETURN gone;
END
$$;
REVOKE ALL ON FUNCTION forget_attempts(timestamptz, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION forget_attempts(timestamptz, integer) TO kopeck_app;
