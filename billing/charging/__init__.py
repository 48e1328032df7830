"""What is due and what it costs, in columns and without SQL."""
