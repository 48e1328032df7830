"""What happened here, told to others as events."""
