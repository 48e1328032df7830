"""The HTTP port partners call."""
