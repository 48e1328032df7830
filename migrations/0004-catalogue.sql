-- depends: 0003-web
--
-- Catalogues: what is sold and for how much, as versions that never change (docs/tariffs.md).
--
-- A version is the files it was loaded from, to the byte, under one SHA-256; rating reads those. The other tables hold
-- the same in rows for pages, reports and joins, written in the same transaction. Nothing is ever updated: a correction
-- is the next version. The one with the highest number is in force; prices within it say from when.

CREATE TABLE catalogues (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE CHECK (length(name) BETWEEN 1 AND 64),
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE catalogue_versions (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    catalogue_id integer NOT NULL REFERENCES catalogues,
    version integer NOT NULL CHECK (version > 0),
    main_file text NOT NULL,                          -- the YAML file among catalogue_files
    sha256 text NOT NULL CHECK (sha256 ~ '^[0-9a-f]{64}$'),   -- of all files with their names
    currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    zone text NOT NULL,
    starts_at timestamptz NOT NULL,
    ends_at timestamptz NOT NULL CHECK (ends_at > starts_at),
    actor text NOT NULL,
    note text NOT NULL DEFAULT '',
    loaded_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (catalogue_id, version)
);

CREATE TABLE catalogue_files (
    version_id bigint NOT NULL REFERENCES catalogue_versions,
    name text NOT NULL CHECK (name !~ '[/\\]' AND length(name) BETWEEN 1 AND 255),
    content bytea NOT NULL,
    PRIMARY KEY (version_id, name)
);

CREATE TABLE catalogue_items (
    version_id bigint NOT NULL REFERENCES catalogue_versions,
    number text NOT NULL,
    names jsonb NOT NULL,                             -- by language; under '' the one for all
    unit text NOT NULL,
    decimals smallint NOT NULL CHECK (decimals BETWEEN 0 AND 6),
    category text NOT NULL,
    tax text NOT NULL,                                -- class; empty: none
    is_manual boolean NOT NULL,
    percentage_of text[] NOT NULL,
    PRIMARY KEY (version_id, number)
);

CREATE TABLE catalogue_plans (
    version_id bigint NOT NULL REFERENCES catalogue_versions,
    number text NOT NULL,
    names jsonb NOT NULL,
    items text[] NOT NULL,                            -- those of the plans it extends too
    extends text NOT NULL,
    PRIMARY KEY (version_id, number)
);

-- One row a version of a price list; empty: for all. kinds: its steps in order; none: as the less specific list says.
CREATE TABLE catalogue_prices (
    version_id bigint NOT NULL,
    item text NOT NULL,
    currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    plan text NOT NULL,
    customer_group text NOT NULL,
    customer text NOT NULL,
    since timestamptz NOT NULL,
    kinds text[] NOT NULL,
    line integer NOT NULL CHECK (line > 0),           -- of the main file
    PRIMARY KEY (version_id, item, currency, plan, customer_group, customer, since),
    FOREIGN KEY (version_id, item) REFERENCES catalogue_items (version_id, number)
);

CREATE TRIGGER catalogues_are_kept BEFORE UPDATE OR DELETE OR TRUNCATE ON catalogues
    FOR EACH STATEMENT EXECUTE FUNCTION append_only();
CREATE TRIGGER catalogue_versions_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON catalogue_versions
    FOR EACH STATEMENT EXECUTE FUNCTION append_only();
CREATE TRIGGER catalogue_files_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON catalogue_files
    FOR EACH STATEMENT EXECUTE FUNCTION append_only();
CREATE TRIGGER catalogue_items_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON catalogue_items
    FOR EACH STATEMENT EXECUTE FUNCTION append_only();
CREATE TRIGGER catalogue_plans_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON catalogue_plans
    FOR EACH STATEMENT EXECUTE FUNCTION append_only();
CREATE TRIGGER catalogue_prices_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON catalogue_prices
    FOR EACH STATEMENT EXECUTE FUNCTION append_only();

GRANT SELECT, INSERT ON catalogues, catalogue_versions, catalogue_files, catalogue_items, catalogue_plans,
    catalogue_prices TO kopeck_app;
