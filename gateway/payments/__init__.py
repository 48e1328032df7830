"""The life of a payment: states, decisions, batches."""
