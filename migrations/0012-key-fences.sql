-- depends: 0009-customers
--
-- Answers of "there is no such payment" that hold over all processes and hosts (gateway/fences.py).

-- A key of which a partner was told that no payment of it is credited. A pay that reached a gateway before fenced_at and
-- is decided after it gets the protocol's temporary code; a pay that came later is decided as ever. Rows are of use for
-- as long as a pay may wait in a gateway, and are deleted an hour later by the gateways themselves.
CREATE TABLE key_fences (
    partner_id integer NOT NULL,
    partner_key text NOT NULL CHECK (length(partner_key) BETWEEN 1 AND 64),
    fenced_at timestamptz NOT NULL,   -- when the question reached the gateway, by this server's clock
    PRIMARY KEY (partner_id, partner_key)
);
CREATE INDEX key_fences_old ON key_fences (fenced_at);

GRANT SELECT, INSERT, UPDATE, DELETE ON key_fences TO kopeck_app;
