"""Background work: what is done later, after the transaction that asked for it."""
