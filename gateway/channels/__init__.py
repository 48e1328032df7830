"""Channels: how deliveries leave this system, one module a way of sending."""
