"""Checks of payments, journal and postings on a live database."""
