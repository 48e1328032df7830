"""Invoices, credit notes, documents and dunning."""
