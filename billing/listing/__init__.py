"""Lists of rows for people and programs: declared once, filtered, ordered, paged by key, counted, streamed."""
