"""Catalogues in PostgreSQL: versions that never change, kept as the files they came from and as rows.

Rules. Saving is one transaction of the caller: a version is there whole or not at all. The same files again are no new
version. Who loads a catalogue waits for whoever is loading it (an advisory lock of the transaction). What is read back
must have the SHA-256 it was saved with. Functions take the caller's cursor.

Does not know: whether a catalogue may be published, what its prices are for.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from billing.catalogue.model import Catalogue, plan_items
from billing.catalogue.reader import read_catalogue
from billing.database.arrays import int_array, text_array
from billing.database.cursors import Cursor
from billing.database.locks import hold_catalogue
from billing.refusals import Refusal
from ratingcore import tariff as core


class CatalogueStoreError(Refusal):
    """A clear sentence for whoever asked for what is not there."""

    default_code = "catalogue_refused"


@dataclass(frozen=True, slots=True)
class Source:
    """The files of a catalogue, by name, and which of them is the catalogue itself."""

    main_file: str
    files: Mapping[str, bytes]

    @property
    def sha256(self) -> str:
        """Of all files with their names and lengths, in order of name."""
        digest = hashlib.sha256()
        for name, content in sorted([("", self.main_file.encode()), *self.files.items()]):
            digest.update(f"{len(name.encode())}:{name}:{len(content)}:".encode())
            digest.update(content)
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class CatalogueVersion:
    """One version of a stored catalogue, without its files."""

    id: int
    name: str
    version: int
    main_file: str
    sha256: str
    currency: str
    actor: str
    note: str
    loaded_at: datetime


_VERSIONS: Final = """
    SELECT v.id, c.name, v.version, v.main_file, v.sha256, v.currency, v.actor, v.note, v.loaded_at
    FROM catalogue_versions v JOIN catalogues c ON c.id = v.catalogue_id
    WHERE (%(name)s IS NULL OR c.name = %(name)s) AND (%(version)s IS NULL OR v.version = %(version)s)
    ORDER BY c.name, v.version DESC
    LIMIT %(limit)s
"""

_FILES: Final = "SELECT name, content FROM catalogue_files WHERE version_id = %s"

_NEW_CATALOGUE: Final = "INSERT INTO catalogues (name) VALUES (%s) ON CONFLICT (name) DO NOTHING"

_NEW_VERSION: Final = """
    INSERT INTO catalogue_versions (catalogue_id, version, main_file, sha256, currency, zone, starts_at, ends_at, actor,
                                    note)
    SELECT id, %(version)s, %(main_file)s, %(sha256)s, %(currency)s, %(zone)s, to_timestamp(%(start_s)s),
           to_timestamp(%(end_s)s), %(actor)s, %(note)s
    FROM catalogues WHERE name = %(name)s
    RETURNING id
"""

_NEW_FILE: Final = "INSERT INTO catalogue_files (version_id, name, content) VALUES (%s, %s, %s)"

_NEW_ITEM: Final = """
    INSERT INTO catalogue_items (version_id, number, names, unit, unit_names, decimals, category, tax, is_manual,
                                 percentage_of)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s::text[])
"""

_NEW_PLAN: Final = """
    INSERT INTO catalogue_plans (version_id, number, names, items, extends) VALUES (%s, %s, %s, %s::text[], %s)
"""

#: Arrays of arrays must be rectangles, so a price's kinds come as one text each.
_NEW_PRICES: Final = """
    INSERT INTO catalogue_prices (version_id, item, currency, plan, customer_group, customer, since, kinds, line)
    SELECT %(id)s, item, currency, plan, customer_group, customer, to_timestamp(since_s),
           string_to_array(kinds, ' '), line
    FROM unnest(%(items)s::text[], %(currencies)s::text[], %(plans)s::text[], %(groups)s::text[],
                %(customers)s::text[], %(sinces)s::bigint[], %(kinds)s::text[], %(lines)s::int[])
         AS p (item, currency, plan, customer_group, customer, since_s, kinds, line)
"""


async def list_versions(cur: Cursor, name: str | None = None, limit: int = 1000) -> list[CatalogueVersion]:
    """Versions of one catalogue or of all, the newest of each first."""
    await cur.execute(_VERSIONS, {"name": name, "version": None, "limit": limit})
    return [CatalogueVersion(*row) for row in await cur.fetchall()]


async def find_version(cur: Cursor, name: str, version: int | None = None) -> CatalogueVersion | None:
    """A version of a catalogue, the newest unless one is named; None where there is none."""
    await cur.execute(_VERSIONS, {"name": name, "version": version, "limit": 1})
    row = await cur.fetchone()
    return CatalogueVersion(*row) if row else None


async def read_source(cur: Cursor, version: CatalogueVersion) -> Source:
    """The files of a version.

    Raises:
        CatalogueStoreError: they are not those that were saved.
    """
    await cur.execute(_FILES, (version.id,))
    source = Source(version.main_file, {name: bytes(content) for name, content in await cur.fetchall()})
    if source.sha256 != version.sha256:
        raise CatalogueStoreError(
            f"catalogue {version.name} version {version.version} is not what was saved: restore it"
        )
    return source


async def read_version(cur: Cursor, version: CatalogueVersion) -> Catalogue:
    """The catalogue of a version.

    Raises:
        CatalogueStoreError: its files are not those that were saved.
    """
    return catalogue_of(await read_source(cur, version))


def catalogue_of(source: Source) -> Catalogue:
    """The catalogue in these files. Raises CatalogueError where they are none."""

    def beside(name: str) -> bytes:
        if name not in source.files:
            raise FileNotFoundError(2, "No such file", name)
        return source.files[name]

    return read_catalogue(source.main_file, source.files[source.main_file], beside)


async def lock_catalogue(cur: Cursor, name: str) -> None:
    """Make others who would save this catalogue wait until the transaction ends."""
    await hold_catalogue(cur, name)


async def save_version(
    cur: Cursor, source: Source, catalogue: Catalogue, actor: str, note: str = ""
) -> tuple[CatalogueVersion, bool]:
    """Save the next version of a catalogue; returns it, and False where the newest one has the same files already.

    Args:
        cur: aiopg cursor inside the caller's transaction.
        catalogue: what the source holds.
        actor: who loads it, as on the audit record.
    """
    await lock_catalogue(cur, catalogue.name)
    newest = await find_version(cur, catalogue.name)
    if newest is not None and newest.sha256 == source.sha256:
        return newest, False
    await cur.execute(_NEW_CATALOGUE, (catalogue.name,))
    values = {
        "name": catalogue.name,
        "version": newest.version + 1 if newest else 1,
        "main_file": source.main_file,
        "sha256": source.sha256,
        "currency": catalogue.currency,
        "zone": catalogue.zone,
        "start_s": catalogue.start_s,
        "end_s": catalogue.end_s,
        "actor": actor,
        "note": note,
    }
    await cur.execute(_NEW_VERSION, values)
    version_id = int((await cur.fetchone())[0])
    for name, content in sorted(source.files.items()):
        await cur.execute(_NEW_FILE, (version_id, name, content))
    await _save_rows(cur, version_id, catalogue)
    saved = await find_version(cur, catalogue.name)
    assert saved is not None  # in the same transaction, under the lock
    return saved, True


async def _save_rows(cur: Cursor, version_id: int, catalogue: Catalogue) -> None:
    for item in catalogue.items.values():
        names, parts = json.dumps(dict(item.names), ensure_ascii=False), text_array(item.percentage_of)
        unit = (item.unit.name, json.dumps(dict(item.unit.names), ensure_ascii=False), item.unit.decimals)
        await cur.execute(
            _NEW_ITEM, (version_id, item.number, names, *unit, item.category, item.tax, item.manual, parts)
        )
    for plan in catalogue.plans.values():
        names, items = json.dumps(dict(plan.names), ensure_ascii=False), text_array(plan_items(catalogue, plan.number))
        await cur.execute(_NEW_PLAN, (version_id, plan.number, names, items, plan.extends))
    rows = [(one, version) for one in catalogue.prices for version in one.versions]
    columns = {
        "id": version_id,
        "items": text_array(one.item for one, _ in rows),
        "currencies": text_array(one.currency for one, _ in rows),
        "plans": text_array(one.plan for one, _ in rows),
        "groups": text_array(one.group for one, _ in rows),
        "customers": text_array(one.customer for one, _ in rows),
        "sinces": int_array(version.since_s for _, version in rows),
        "kinds": text_array(_kinds(version.tariff) for _, version in rows),
        "lines": int_array(version.place.line for _, version in rows),
    }
    await cur.execute(_NEW_PRICES, columns)


def _kinds(tariff: core.Tariff | None) -> str:
    return " ".join(core.kind_of(step) for step in tariff.steps) if tariff else ""


def now_s() -> int:
    """The present, for asking what acts on the past."""
    return int(datetime.now(UTC).timestamp())
