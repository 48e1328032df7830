"""What the catalogues in force could rate, out of PostgreSQL, for an import of usage to hold events against.

Rules. The newest version of every catalogue counts, as the next billing run will rate by it. Steps of items are columns
of the database; files are read only of catalogues with an item all of whose prices look a number up. What cannot be
read refuses nothing: billing says so of the orders on it.

Does not know: events.
"""

from typing import Final

from billing.catalogue.nodes import CatalogueError
from billing.catalogue.store import Source, catalogue_of
from billing.database.adbc import rows
from billing.database.cursors import ColumnConnection
from billing.usage.ratable import Ratable, ratable_under

_MICRO_DECIMALS: Final = 6

_NEWEST: Final = """
    SELECT DISTINCT ON (catalogue_id) id, main_file FROM catalogue_versions ORDER BY catalogue_id, version DESC
"""

#: The finest steps that an item is counted in, in any catalogue.
_ITEMS: Final = f"""
    SELECT i.number, max(i.decimals) FROM ({_NEWEST}) v JOIN catalogue_items i ON i.version_id = v.id
    WHERE i.percentage_of = '{{}}' GROUP BY i.number
"""

#: Items all of whose prices look a number up, with the versions that have them.
_BY_NUMBER: Final = f"""
    SELECT p.item, array_agg(DISTINCT v.id)::text FROM ({_NEWEST}) v JOIN catalogue_prices p ON p.version_id = v.id
    WHERE p.kinds <> '{{}}' GROUP BY p.item HAVING bool_and('RateCard' = ANY (p.kinds))
"""

_MAIN_FILE: Final = "SELECT main_file FROM catalogue_versions WHERE id = $1::bigint"

_FILES: Final = "SELECT name, content FROM catalogue_files WHERE version_id = $1::bigint"


def ratable_now(load: ColumnConnection) -> Ratable:
    """What the catalogues in force could rate; nothing is known while there is none.

    Args:
        load: a connection of ADBC, inside the caller's transaction.
    """
    divisors = {str(item): 10 ** (_MICRO_DECIMALS - int(decimals)) for item, decimals in rows(load, _ITEMS)}
    by_number = {str(item): _ids(versions) for item, versions in rows(load, _BY_NUMBER)}
    catalogues = {}
    for version in sorted(set[int]().union(*by_number.values())):
        try:
            catalogues[version] = catalogue_of(_source(load, version))
        except CatalogueError:
            by_number = {item: versions for item, versions in by_number.items() if version not in versions}
    rates = ratable_under(catalogues.values()).rates
    return Ratable(divisors, {item: ranges for item, ranges in rates.items() if item in by_number})


def _ids(text: str) -> set[int]:
    return {int(version) for version in text.strip("{}").split(",")}


def _source(load: ColumnConnection, version: int) -> Source:
    main_file = str(rows(load, _MAIN_FILE, (version,))[0][0])
    return Source(main_file, {str(name): bytes(content) for name, content in rows(load, _FILES, (version,))})
