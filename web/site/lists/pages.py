"""The pages of a list: the list itself, choosing columns, saving and removing views.

Rules. Every view is on the audit record before it is shown. A page reads in one snapshot: its rows and their number
belong together. What cannot be read of the address is told and nothing is listed; an address that is not canonical is
redirected to the one that is, with the user's columns in it, so what stands in the browser is the whole state.

Does not know: which lists there are (web/console/listings.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Final
from urllib.parse import parse_qsl, urlencode

from tornado.web import HTTPError

from billing.language import N_
from billing.listing.places import read_place
from billing.listing.records import PlaceError, Question, TooSlow
from billing.listing.store import count_of, page_of
from web.access.rights import Open, Right
from web.site.columns import Column
from web.site.lists import shown
from web.site.lists.declaration import Listing
from web.site.lists.request import ListRequest, read_request, with_dates
from web.site.lists.views_store import (
    View,
    ViewError,
    choose_columns,
    chosen_columns,
    remove_view,
    save_view,
    views_of,
)
from web.site.page import Page
from web.site.site import READ_ONLY_SNAPSHOT

PAGE_ROWS: Final = 50
_VIEW_PROBLEMS: Final = {
    "list_view_name": N_("A view needs a name of at most 60 letters."),
    "list_view_long": N_("The filter is too long to be saved."),
    "list_view_many": N_("You keep 50 views of this list already. Remove one first."),
}
#: A count that somebody waits for.
PATIENT_COUNT_MS: Final = 15_000

ColumnOptions = dict[str, Sequence[tuple[str, str]]]


class ListedPage(Page):
    """What all pages of lists share."""

    def legal_entities(self, listing: Listing) -> tuple[int, ...] | None:
        """Ids of the legal entities whose rows the user may see; None: of all."""
        entities = self.access.entities(listing.needs)
        return None if entities is None else tuple(sorted(entities))

    async def read(self, listing: Listing, arguments: Mapping[str, Sequence[str]]) -> tuple[ListRequest, ColumnOptions]:
        """What an address asks of a list, and the choices that come from the database."""
        async with self.site.cursor() as cur:
            chosen = await chosen_columns(cur, self.user.id, listing.name)
            options = {column.name: await column.options(cur) for column in listing.columns if column.options}
        request = read_request(
            listing, arguments, self.spoken, self.now, self.site.zone, chosen=chosen, options=options
        )
        return request, options


class ListPage(ListedPage):
    """GET of a list. Subclasses, made by `list_page`, name the listing."""

    listing: ClassVar[Listing]

    async def get(self) -> None:
        """The filtered list, or what is wrong with its address."""
        request, options = await self.read(self.listing, self.arguments)
        async with self.site.cursor() as cur:
            views = await views_of(cur, self.user.id, self.listing.name)
        if request.question is None:
            await self._refuse(request, options, views, "")
            return
        if not request.is_canonical(self.request.query):
            self.redirect(request.own_address)
            return
        try:
            place = read_place(request.place, self.listing.source.name, request.question) if request.place else None
        except PlaceError as error:
            await self._refuse(request, options, views, self._place_told(error))
            return
        await self.record("list_viewed", "list", self.listing.name, filter=request.query())
        names = self.listing.fields_of(request.columns)
        question = scoped(request, self.legal_entities(self.listing))
        try:
            async with self.site.transaction(READ_ONLY_SNAPSHOT) as cur:
                rows = await page_of(cur, self.listing.source, question, names, place, PAGE_ROWS)
                patience = {"is_patient": True, "timeout_ms": PATIENT_COUNT_MS} if request.is_patient else {}
                count = await count_of(cur, self.listing.source, question, **patience)  # type: ignore[arg-type]
        except TooSlow:
            await self._refuse(request, options, views, self._narrow())
            return
        except PlaceError as error:
            await self._refuse(request, options, views, self._place_told(error))
            return
        before, after, first = shown.neighbours(request, rows)
        paging = {"previous": before, "next": after, "first": first if before else ""}
        await self._show(
            request, options, views, rows=rows.rows, paging=paging, found=shown.found(request, rows, count, self.spoken)
        )

    def _place_told(self, error: PlaceError) -> str:
        if error.code == "list_place_other":
            return self.spoken.gettext("This page belongs to another filter or order. Start from the first page.")
        return self.spoken.gettext("The address of this page is damaged. Start from the first page.")

    def _narrow(self) -> str:
        fields = self.listing.source.fields
        quick = [column.title for column in self.listing.columns if fields[column.name].is_quick]
        names = ", ".join(self.spoken.gettext(title) for title in quick)
        return self.spoken.gettext(
            "No index serves this filter in the time a list has. Narrow it by one of these: %(names)s.", names=names
        )

    async def _refuse(self, request: ListRequest, options: ColumnOptions, views: list[View], problem: str) -> None:
        self.set_status(400)
        if request.unknown:
            names = ", ".join(name[:40] for name in request.unknown[:10])
            problem = self.spoken.gettext("The list does not know these parts of the address: %(names)s.", names=names)
        elif not problem and set(request.errors) & {"sort", "columns", "count"}:
            problem = next(request.errors[name] for name in ("sort", "columns", "count") if name in request.errors)
        start = shown.without_unknown(request, parse_qsl(self.request.query)) if request.unknown else request.address()
        await self._show(request, options, views, problem=problem, start=start)

    async def _show(
        self,
        request: ListRequest,
        options: ColumnOptions,
        views: list[View],
        *,
        rows: Sequence[Mapping[str, Any]] | None = None,
        paging: Mapping[str, str] | None = None,
        found: shown.Found | None = None,
        problem: str = "",
        start: str = "",
    ) -> None:
        listing, words = self.listing, self.spoken
        columns = shown.headings(request, words)
        actions = [(action.name, words.gettext(action.title)) for action in listing.actions if self.may(action.needs)]
        if actions:
            columns = {"row_chosen": Column(words.gettext("Select"), "mark", "block", is_silent=True), **columns}
        hrefs = [f"{listing.path}?{tab.query}" if tab.query else listing.path for tab in listing.tabs]
        is_now = [
            urlencode([pair for pair in request.pairs() if pair[0] not in ("sort", "columns")]) == tab.query
            for tab in listing.tabs
        ]
        await self.show(
            "list.html",
            listing=listing,
            request=request,
            rows=rows,
            found=found,
            problem=problem,
            start=start,
            paging=paging,
            columns=columns,
            column_titles={column.name: words.gettext(column.title) for column in listing.columns},
            by_name=listing.by_name,
            filters=shown.filters_of(request, options, words),
            set_filters=shown.set_filters(request, options, words),
            labels={column.name: dict(shown.choices_of(column, options, words)) for column in listing.columns},
            periods=[(code, words.gettext(text)) for code, text in shown.PERIOD_WORDS.items()],
            tabs=[
                (href, words.gettext(tab.title), is_open, None)
                for href, tab, is_open in zip(hrefs, listing.tabs, is_now, strict=True)
            ],
            views=[(view, f"{listing.path}?{with_dates(listing, view.query, request)}") for view in views],
            adds=listing.adds if listing.adds and self.may(listing.adds.needs) else None,
            may_export=self.may(listing.exports),
            may_share=self.may(Right.VIEWS_SHARE),
            actions=actions,
            is_sum=listing.source.sums is not None,
        )


def list_page(of: Listing) -> type[ListPage]:
    """The handler of a list's page.

    >>> list_page.__name__
    'list_page'
    """

    class ThisListPage(ListPage):
        listing = of
        needs = of.needs
        section = of.section or of.name
        get = ListPage.get  # by name, as routes are counted

    return ThisListPage


class ListServicePage(ListedPage):
    """A page that serves any list by its name. ``listings``: by name, given by a subclass."""

    needs = Open.TO_SIGNED_IN  # and then the right of the list that is named
    listings: ClassVar[Mapping[str, Listing]]

    async def listing_named(self, name: str) -> Listing:
        """The list, if the user may see it."""
        listing = self.listings.get(name)
        if listing is None:
            raise HTTPError(404)
        await self.demand(listing.needs)
        return listing

    async def posted_request(self, listing: Listing) -> ListRequest:
        """The list's question as the posted field ``query`` has it.

        Raises:
            HTTPError: 400, it is none.
        """
        arguments: dict[str, list[str]] = {}
        for name, value in parse_qsl(self.get_body_argument("query", "")[:8_000]):
            arguments.setdefault(name, []).append(value)
        request, _ = await self.read(listing, arguments)
        if request.question is None:
            raise HTTPError(400)
        return request


class ColumnsPage(ListServicePage):
    """POST /lists/NAME/columns: keep the columns that the user has ticked."""

    async def post(self, name: str) -> None:
        """Keep them, and show the list with them."""
        listing = await self.listing_named(name)
        request = await self.posted_request(listing)
        ticked = [column for column in self.get_body_arguments("column") if column in listing.by_name]
        if self.get_body_argument("do", "") == "default" or not ticked:
            columns: tuple[str, ...] = ()
        else:  # those that were shown keep their order, new ones come in the order of the list
            kept = [column for column in request.columns if column in ticked]
            columns = (*kept, *(column for column in listing.by_name if column in ticked and column not in kept))
        async with self.site.cursor() as cur:
            await choose_columns(cur, self.user.id, listing.name, columns)
        self.redirect(request.address(columns=".".join(columns or listing.shown)), status=303)


class ViewsPage(ListServicePage):
    """POST /lists/NAME/views: save the filter, order and columns under a name, or remove a view."""

    async def post(self, name: str) -> None:
        """Save or remove, and show the list as it was."""
        listing = await self.listing_named(name)
        request = await self.posted_request(listing)
        await change_views(self, listing.name, request.query())
        self.redirect(request.address(), status=303)


async def change_views(page: Page, list_name: str, query: str) -> None:
    """Save a view of ``query``, or remove one, as the posted form says; the page's notice tells how it went.

    Raises:
        HTTPError: no such view, or no right to share.
    """
    view_id = page.get_body_argument("remove", "")
    if view_id:
        await _remove(page, list_name, view_id)
        return
    view_name = " ".join(page.get_body_argument("view_name", "").split())
    is_shared = page.get_body_argument("view_shared", "") == "yes"
    if is_shared:
        await page.demand(Right.VIEWS_SHARE)
    try:
        async with page.site.transaction() as cur:
            await save_view(cur, page.user.id, list_name, view_name, query, is_shared)
            await page.record("list_view_saved", "list", list_name, cur, name=view_name, shared=is_shared)
    except ViewError as error:
        await page.notify(_VIEW_PROBLEMS[error.code], "bad")
        return
    await page.notify(N_("The view “%(name)s” is saved."), name=view_name)


async def _remove(page: Page, list_name: str, view_id: str) -> None:
    if not (view_id.isascii() and view_id.isdecimal() and len(view_id) < 19):
        raise HTTPError(400)
    async with page.site.transaction() as cur:
        removed = await remove_view(cur, page.user.id, list_name, int(view_id))
        if removed is None:
            raise HTTPError(404)
        await page.record("list_view_removed", "list", list_name, cur, name=removed)


def scoped(request: ListRequest, legal_entities: tuple[int, ...] | None) -> Question:
    """The question of a request, within what its asker may see."""
    assert request.question is not None
    return replace(request.question, legal_entities=legal_entities)
