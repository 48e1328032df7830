"""Tariffs: the model, the reader, the linter and the versions."""
