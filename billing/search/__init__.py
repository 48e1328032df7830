"""One search box: what typed text may be, and the customers, accounts, orders and invoices that it finds."""
