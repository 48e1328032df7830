"""Orders: terms, rules, changes."""
