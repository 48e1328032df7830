"""Usage events: import, mediation, rejects."""
