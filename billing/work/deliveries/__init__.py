"""The one delivery engine: what is sent to others, once by id, until they have answered."""
