"""Background jobs done: processes that claim them, child processes that do the work, the work of each kind."""
