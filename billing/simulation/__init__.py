"""A month billed without effect: usage rating and what-if."""
