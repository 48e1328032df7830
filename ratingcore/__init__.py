"""Money and rating arithmetic: the lowest room. Imports no I/O library and no other room."""
