-- depends: 0022-access
--
-- Languages are files (billing/language): which there are, the program knows. The database holds that it is a language's
-- code and no more, so that a third language needs no migration.

ALTER TABLE users DROP CONSTRAINT users_locale_check,
    ADD CONSTRAINT users_locale_check CHECK (locale ~ '^[a-z]{2,3}(_[A-Za-z]{2,4})?$');
ALTER TABLE customers DROP CONSTRAINT customers_language_check,
    ADD CONSTRAINT customers_language_check CHECK (language ~ '^[a-z]{2,3}(_[A-Za-z]{2,4})?$');
