"""The database edge for columns: the ADBC link and column literals."""
