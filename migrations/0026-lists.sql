-- depends: 0021-review
--
-- Lists of people: what they search and order by, the columns each has chosen, and views that were saved.
--
-- Parts of names are found through arrays of their runs of three letters, so no extension is needed (pg_trgm is not on
-- every server). Functions of indexes are bound to what they call when they are made, whatever the search_path is.

CREATE FUNCTION search_fold(words text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
    RETURN translate(lower(words), 'ё', 'е');

CREATE FUNCTION search_grams(words text) RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
    RETURN ARRAY(SELECT DISTINCT substr(search_fold(words), place, 3)
                 FROM generate_series(1, length(words) - 2) place);

CREATE INDEX customers_name_grams ON customers USING gin (search_grams(name));
CREATE INDEX customers_name_order ON customers (search_fold(name) COLLATE "C", id);
CREATE INDEX customers_number_order ON customers ((number) COLLATE "C", id);
CREATE INDEX customers_created ON customers (created_at, id);
CREATE INDEX accounts_number_order ON accounts ((number) COLLATE "C");
CREATE INDEX orders_number_order ON orders ((coalesce(number, '#' || id)) COLLATE "C", id);
CREATE INDEX orders_starts ON orders (starts_at, id);
-- Invoices come in the order of their dates, so these grow at their ends.
CREATE INDEX invoices_invoiced ON invoices (invoiced_on, id);
CREATE INDEX invoices_due ON invoices (due_on, id);

-- The columns of a list that a user wants to see, in order. Without a row: the list's own.
CREATE TABLE list_columns (
    user_id integer NOT NULL REFERENCES users,
    list text NOT NULL CHECK (list ~ '^[a-z][a-z_]{0,39}$'),
    columns text[] NOT NULL CHECK (cardinality(columns) BETWEEN 1 AND 60),
    changed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, list)
);

-- A filter with its order and columns, under a name. query: as in the address of the list. Shared ones are for all.
CREATE TABLE list_views (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    list text NOT NULL CHECK (list ~ '^[a-z][a-z_]{0,39}$'),
    user_id integer NOT NULL REFERENCES users,
    name text NOT NULL CHECK (name = btrim(name) AND length(name) BETWEEN 1 AND 60),
    query text NOT NULL CHECK (length(query) <= 4000),
    is_shared boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (list, user_id, name)
);
CREATE INDEX list_views_shared ON list_views (list) WHERE is_shared;

GRANT SELECT, INSERT, UPDATE, DELETE ON list_columns, list_views TO kopeck_app;
