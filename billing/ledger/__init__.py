"""Accounts, transfers and balances."""
