-- depends: 0026-lists
--
-- One search box: what customers, accounts and invoices are found by that their lists do not order by, and the payments
-- that are under way, for the home page.
--
-- Parts of names are found by search_grams of 0026-lists; here are words with their forms. Each index that an importer of
-- customers writes is partial where most rows have nothing to be found by.

-- Its digits; of a Russian number the ten that follow +7 or 8, so every spelling is one.
CREATE FUNCTION search_phone(phone text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
    RETURN regexp_replace(regexp_replace(phone, '[^0-9]', '', 'g'), '^[78](?=[0-9]{10}$)', '');

-- Words of a name as they are written, and as Russian and English decline them. The parser takes typographic signs for
-- letters where the database's locale is C.
CREATE FUNCTION search_words(words text) RETURNS tsvector LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
    RETURN to_tsvector('simple', translate(search_fold(words), '«»„“”‘’…–—№', '           '))
        || to_tsvector('russian', translate(search_fold(words), '«»„“”‘’…–—№', '           '));

CREATE INDEX customers_name_words ON customers USING gin (search_words(name)) WHERE name <> '';
CREATE INDEX customers_phone ON customers (search_phone(contacts ->> 'phone') COLLATE "C") WHERE contacts ->> 'phone' <> '';
CREATE INDEX customers_email ON customers (lower(contacts ->> 'email') COLLATE "C") WHERE contacts ->> 'email' <> '';
CREATE INDEX customers_inn ON customers ((details ->> 'inn') COLLATE "C") WHERE details ->> 'inn' <> '';

-- Accounts that only take payments have a name and no customer. A balance is no part of it, so its changes stay HOT.
CREATE INDEX accounts_name_words ON accounts USING gin (search_words(name)) WHERE name <> '';

CREATE INDEX invoices_total ON invoices (total_minor, id);

-- Held and not yet posted or given back: few, and a change of state writes the payment's indexes anyway.
CREATE INDEX payments_under_way ON payments (created_at, id) WHERE state IN ('held', 'sent', 'unknown');
