"""Commands about catalogues, usage, runs and invoices."""
