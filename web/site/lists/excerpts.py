"""The first rows of a list on the page of something else: the orders of a customer, the invoices of a run.

Rules. What is shown is what the link to the whole list shows: both are one address. Rows are within what the user may
see; of a list that the user may not see there is no excerpt.

Does not know: which pages have excerpts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qs

from billing.database.cursors import Cursor
from billing.listing.records import Row
from billing.listing.store import page_of
from web.site.columns import Column
from web.site.lists import shown
from web.site.lists.declaration import ListColumn, Listing
from web.site.lists.pages import ListedPage, scoped
from web.site.lists.request import read_request

EXCERPT_ROWS = 10


@dataclass(frozen=True, slots=True)
class Excerpt:
    """Rows of a list with what a table of them needs. href: of the whole list; has_more: it has more rows."""

    title: str
    columns: Mapping[str, Column]
    by_name: Mapping[str, ListColumn]
    labels: Mapping[str, Mapping[str, str]]
    rows: Sequence[Row]
    href: str
    has_more: bool


async def excerpt_of(
    page: ListedPage, cur: Cursor, listing: Listing, query: str, columns: Sequence[str], limit: int = EXCERPT_ROWS
) -> Excerpt | None:
    """The first rows of a list under a filter; None for who may not see the list.

    query: as in the list's address. columns: those of the excerpt.
    """
    if not page.may(listing.needs):
        return None
    request = read_request(listing, parse_qs(query), page.spoken, page.now, page.site.zone, chosen=columns)
    if request.question is None:
        raise ValueError(f"{listing.name}?{query}: {dict(request.errors)} {request.unknown}")
    question = scoped(request, page.legal_entities(listing))
    rows = await page_of(cur, listing.source, question, listing.fields_of(columns), None, limit)
    plain = {
        name: Column(heading.title, heading.kind, heading.place)
        for name, heading in shown.headings(request, page.spoken).items()
    }
    labels = {name: dict(shown.choices_of(listing.by_name[name], {}, page.spoken)) for name in columns}
    return Excerpt(
        page.spoken.gettext(listing.title),
        plain,
        listing.by_name,
        labels,
        rows.rows,
        f"{listing.path}?{query}",
        rows.next is not None,
    )
