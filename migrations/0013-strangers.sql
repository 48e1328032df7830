-- depends: 0010-guards
--
-- Attempts of callers that proved nothing are counted together.

-- How many calls the row stands for: those of one address and reason within a minute, over what is kept in full.
ALTER TABLE attempts ADD COLUMN calls integer NOT NULL DEFAULT 1 CHECK (calls > 0);
