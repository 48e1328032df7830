"""Users, sessions and the audit record."""
