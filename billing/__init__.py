"""Accounts and the ledger; later the catalogue, orders, usage, the billing cycle, invoices and settlement.

Rules. Store functions take the caller's cursor (aiopg); the outermost room that acts owns the transaction. Lock order
everywhere: subscriber accounts by id, then counters, then system accounts by id.
"""
