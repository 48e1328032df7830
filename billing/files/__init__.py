"""Text files to columns: layouts, lines, values, rejects with file and line."""
