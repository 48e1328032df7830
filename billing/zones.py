"""Whether the database knows a time zone: it has a list of its own, which may be older than the program's.

Rules. Who takes a zone from outside asks both: ratingcore.bands.zone_of for the program, this for the database. What is
stored all the same (an older server after a restore) counts as UTC in SQL: zone_or_utc of migration 0016.

Does not know: what is done in a zone.
"""

from typing import Any, Final

_IS_KNOWN: Final = "SELECT zone_or_utc(%s) = %s"

_SAID: Final = "the database server does not know the time zone '{}': its time zone data may be old"
#: For an import: the sentence as an SQL expression; the zone is u.zone.
UNKNOWN_ZONE: Final = "'" + _SAID.replace("'", "''").replace("{}", "' || u.zone || '") + "'"


async def problem_with_zone(cur: Any, zone: str) -> str | None:
    """What is wrong with a zone that the program knows, as a sentence, or None."""
    await cur.execute(_IS_KNOWN, (zone, zone))
    return None if (await cur.fetchone())[0] else _SAID.format(zone[:40])
