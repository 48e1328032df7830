"""`kopeck run`: one machine, one parent, demo data."""
