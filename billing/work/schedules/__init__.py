"""Schedules: who starts a job when, once over any number of hosts; calendar rules, missed runs, working days."""
