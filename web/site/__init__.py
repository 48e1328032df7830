"""What every page shares: layout, filters, formatting, words."""
