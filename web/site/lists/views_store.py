"""What people keep of lists: the columns each has chosen, and views under a name, own and shared.

Rules. Functions take the caller's aiopg cursor. A view belongs to who saved it: others see it where it is shared, and
only its owner changes, shares or removes it. A user keeps MAX_VIEWS of a list at most. Saving under a name that the
user has replaces that view.

Does not know: what a query means (request), rights.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from billing.database.arrays import text_array
from billing.database.cursors import Cursor
from billing.database.rows import records
from billing.refusals import Refusal

MAX_VIEWS: Final = 50
MAX_NAME: Final = 60
MAX_QUERY: Final = 4_000

_COLUMNS: Final = "SELECT columns FROM list_columns WHERE user_id = %s AND list = %s"
_KEEP_COLUMNS: Final = """
    INSERT INTO list_columns (user_id, list, columns) VALUES (%s, %s, %s::text[])
    ON CONFLICT (user_id, list) DO UPDATE SET columns = EXCLUDED.columns, changed_at = now()
"""
_FORGET_COLUMNS: Final = "DELETE FROM list_columns WHERE user_id = %s AND list = %s"
_VIEWS: Final = """
    SELECT v.id, v.name, v.query, v.is_shared, u.login AS owner, v.user_id = %(user_id)s AS is_own
    FROM list_views v JOIN users u ON u.id = v.user_id
    WHERE v.list = %(list)s AND (v.user_id = %(user_id)s OR v.is_shared)
    ORDER BY v.user_id <> %(user_id)s, search_fold(v.name), v.id LIMIT 200
"""
_SAVE: Final = """
    INSERT INTO list_views (list, user_id, name, query, is_shared)
    SELECT %(list)s, %(user_id)s, %(name)s, %(query)s, %(is_shared)s
    WHERE (SELECT count(*) FROM list_views
           WHERE list = %(list)s AND user_id = %(user_id)s AND name <> %(name)s) < %(most)s
    ON CONFLICT (list, user_id, name) DO UPDATE SET query = EXCLUDED.query, is_shared = EXCLUDED.is_shared
    RETURNING id
"""
_REMOVE: Final = "DELETE FROM list_views WHERE id = %s AND user_id = %s AND list = %s RETURNING name"


class ViewError(Refusal):
    """A view cannot be kept so."""

    default_code = "list_view_refused"


@dataclass(frozen=True, slots=True)
class View:
    """A saved view. query: of its list's address. owner: a login."""

    id: int
    name: str
    query: str
    is_shared: bool
    owner: str
    is_own: bool


async def chosen_columns(cur: Cursor, user_id: int, list_name: str) -> tuple[str, ...]:
    """The columns that a user has chosen for a list; none: the list's own."""
    await cur.execute(_COLUMNS, (user_id, list_name))
    row = await cur.fetchone()
    return () if row is None else tuple(row[0])


async def choose_columns(cur: Cursor, user_id: int, list_name: str, columns: Sequence[str]) -> None:
    """Keep a user's columns of a list; none of them: the list's own again."""
    if columns:
        await cur.execute(_KEEP_COLUMNS, (user_id, list_name, text_array(columns)))
    else:
        await cur.execute(_FORGET_COLUMNS, (user_id, list_name))


async def views_of(cur: Cursor, user_id: int, list_name: str) -> list[View]:
    """Views of a list that a user may open, the user's own first."""
    await cur.execute(_VIEWS, {"user_id": user_id, "list": list_name})
    return await records(cur, View)


async def save_view(cur: Cursor, user_id: int, list_name: str, name: str, query: str, is_shared: bool) -> None:
    """Keep a view under a name, in place of the user's one of that name.

    Raises:
        ViewError: no name, one that is too long, or too many views.
    """
    plain = " ".join(name.split())
    if not plain or len(plain) > MAX_NAME or "\0" in plain:
        raise ViewError("a view has a name of at most 60 letters", code="list_view_name")
    if len(query) > MAX_QUERY:
        raise ViewError("the filter is too long to be saved", code="list_view_long")
    values = {"list": list_name, "user_id": user_id, "name": plain, "query": query}
    await cur.execute(_SAVE, {**values, "is_shared": is_shared, "most": MAX_VIEWS})
    if await cur.fetchone() is None:
        raise ViewError("you keep 50 views of this list already: remove one", code="list_view_many")


async def remove_view(cur: Cursor, user_id: int, list_name: str, view_id: int) -> str | None:
    """Remove a user's own view; returns its name, None where the user has none such."""
    await cur.execute(_REMOVE, (view_id, user_id, list_name))
    row = await cur.fetchone()
    return None if row is None else str(row[0])
