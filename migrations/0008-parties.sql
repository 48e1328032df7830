-- depends: 0007-usage-months
--
-- An issued invoice never changes, and neither do the seller and the buyer it names: a document takes them as they were
-- when it was issued. The row that stands is today's; what it replaced is kept here with the time until which it held.
-- So a party that never changes costs nothing, however many are made. What was replaced before this migration is not
-- known: invoices of then show what stood when it ran.
--
-- Customers and legal entities: written when the transaction commits, so that the time is the one from which others see the change; of several
-- changes in one transaction only the first replaced something that anybody saw.

CREATE TABLE legal_entity_versions (
    legal_entity_id integer NOT NULL REFERENCES legal_entities,
    until_at timestamptz NOT NULL,
    name text NOT NULL,
    details jsonb NOT NULL,
    PRIMARY KEY (legal_entity_id, until_at)
);

CREATE TABLE customer_versions (
    customer_id bigint NOT NULL REFERENCES customers,
    until_at timestamptz NOT NULL,
    name text NOT NULL,
    language text NOT NULL,
    contacts jsonb NOT NULL,
    details jsonb NOT NULL,
    PRIMARY KEY (customer_id, until_at)
);

-- A customer without a name is printed by the name of his account.
CREATE TABLE account_versions (
    account_id bigint NOT NULL REFERENCES accounts,
    until_at timestamptz NOT NULL,
    name text NOT NULL,
    PRIMARY KEY (account_id, until_at)
);

CREATE FUNCTION keep_legal_entity() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    INSERT INTO legal_entity_versions VALUES (OLD.id, clock_timestamp(), OLD.name, OLD.details)
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END
$$;
CREATE CONSTRAINT TRIGGER legal_entities_versions AFTER UPDATE OF name, details ON legal_entities
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN ((OLD.name, OLD.details) IS DISTINCT FROM (NEW.name, NEW.details)) EXECUTE FUNCTION keep_legal_entity();

CREATE FUNCTION keep_customer() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    INSERT INTO customer_versions
    VALUES (OLD.id, clock_timestamp(), OLD.name, OLD.language, OLD.contacts, OLD.details)
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END
$$;
CREATE CONSTRAINT TRIGGER customers_versions AFTER UPDATE OF name, language, contacts, details ON customers
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN ((OLD.name, OLD.language, OLD.contacts, OLD.details)
          IS DISTINCT FROM (NEW.name, NEW.language, NEW.contacts, NEW.details)) EXECUTE FUNCTION keep_customer();

-- Before, and at once: an AFTER trigger, even one that never fires, would fetch the old row of every balance that moves.
CREATE FUNCTION keep_account_name() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    INSERT INTO account_versions VALUES (OLD.id, clock_timestamp(), OLD.name) ON CONFLICT DO NOTHING;
    RETURN NEW;
END
$$;
CREATE TRIGGER accounts_versions BEFORE UPDATE OF name ON accounts FOR EACH ROW
    WHEN (OLD.name IS DISTINCT FROM NEW.name) EXECUTE FUNCTION keep_account_name();

REVOKE ALL ON FUNCTION keep_legal_entity(), keep_customer(), keep_account_name() FROM PUBLIC;

CREATE TRIGGER legal_entity_versions_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON legal_entity_versions
    FOR EACH STATEMENT EXECUTE FUNCTION append_only();
CREATE TRIGGER customer_versions_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON customer_versions
    FOR EACH STATEMENT EXECUTE FUNCTION append_only();
CREATE TRIGGER account_versions_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON account_versions
    FOR EACH STATEMENT EXECUTE FUNCTION append_only();

-- The number of an invoice is made of its series, so that stays from its first number on.
CREATE FUNCTION begun_series_stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'series % has given numbers: its prefix and digits stay', OLD.prefix;
END
$$;
CREATE TRIGGER invoice_series_stay BEFORE UPDATE OF prefix, digits ON invoice_series FOR EACH ROW
    WHEN (OLD.next_number > 1 AND (OLD.prefix, OLD.digits) IS DISTINCT FROM (NEW.prefix, NEW.digits))
    EXECUTE FUNCTION begun_series_stays();

GRANT SELECT ON legal_entity_versions, customer_versions, account_versions TO kopeck_app;
