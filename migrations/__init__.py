"""Numbered PostgreSQL migrations as plain SQL, one order for the whole database (yoyo; see `kopeck migrate`)."""
