"""Partners and the pages of administrators."""
