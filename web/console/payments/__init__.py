"""Payments and attempts."""
