"""Commands about customers and orders."""
