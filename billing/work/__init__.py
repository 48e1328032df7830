"""Work that nobody waits for: background jobs, schedules, deliveries. It knows no payment."""
