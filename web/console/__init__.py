"""Pages of operators and administrators, by area."""
