"""The one list page: declared columns, filters in the address, paging by key, totals, views, export, bulk actions."""
