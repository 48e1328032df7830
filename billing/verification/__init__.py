"""Checks of a live database."""
