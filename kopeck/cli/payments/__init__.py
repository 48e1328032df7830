"""Commands about accounts and payments."""
