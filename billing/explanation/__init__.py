"""A billed line derived again by the reference."""
