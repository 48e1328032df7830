"""PostgreSQL and the journal: embedded servers, migration, transactions."""
