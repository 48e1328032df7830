"""The billing cycle: plan, shards, posting, numbers."""
