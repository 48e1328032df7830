"""Processes for a service manager: gateway, relay, web."""
