"""The work of each kind of job; kopeck/serve/jobs.py names it. Imported in the child process alone."""
