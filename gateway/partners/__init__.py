"""Partners, contracts and keys."""
