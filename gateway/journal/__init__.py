"""The searchable journal: documents, relay, search."""
