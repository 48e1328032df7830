"""Every list of the console, by name, and the pages that serve all of them.

Does not know: what a list shows.
"""

from collections.abc import Mapping
from typing import Final

from web.console.billing.invoice_list import INVOICES
from web.console.billing.orders import ORDERS
from web.console.billing.runs import RUNS
from web.console.people.customers import CUSTOMERS
from web.site.lists.declaration import Listing
from web.site.lists.pages import ColumnsPage, ViewsPage
from web.site.lists.work_pages import BulkPage, ExportPage

LISTINGS: Final[Mapping[str, Listing]] = {listing.name: listing for listing in (CUSTOMERS, ORDERS, INVOICES, RUNS)}


class ColumnChoice(ColumnsPage):
    """POST /lists/NAME/columns."""

    listings = LISTINGS
    post = ColumnsPage.post


class Views(ViewsPage):
    """POST /lists/NAME/views."""

    listings = LISTINGS
    post = ViewsPage.post


class Export(ExportPage):
    """POST /lists/NAME/export."""

    listings = LISTINGS
    post = ExportPage.post


class Act(BulkPage):
    """POST /lists/NAME/act."""

    listings = LISTINGS
    post = BulkPage.post
