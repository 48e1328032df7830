"""The contract book: every partner's present contract and keys, ready to serve requests, and kept fresh.

Rules. A gateway polls one revision number and reads everything again when it moved, so a row changed in the database is
in force within `contracts_poll_s`, without a restart. Keys come and go by their validity without being read again. A
broken contract or key takes its own partner down, never the others.

Does not know: SQL, what a dialect's settings mean (adapters.protocols), how requests arrive.
"""

import asyncio
import ipaddress
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from adapters.messages import Contract, Keys, Op, Protocol, Reason, Reply, Result
from adapters.protocols import PROTOCOLS, contract_from_json
from billing.database.away import DatabaseAway
from billing.database.cursors import Cursor
from gateway.partners import store
from gateway.partners.key_material import PURPOSES, bits_of, is_too_short, parse_key
from gateway.partners.records import ContractError, StoredKey
from gateway.payments import metrics
from gateway.payments.driver import Connection, CoreOptions, at_the_edge, end_tasks
from gateway.payments.records import Terms

log = logging.getLogger(__name__)

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Binding:
    """A partner's present contract, ready to serve a request."""

    contract: Contract
    protocol: Protocol
    terms: Terms
    stored_keys: tuple[StoredKey, ...]
    networks: tuple[Network, ...]
    keys: Keys
    #: Replies to what proved nothing, by operation and reason: their bytes never change, so they are signed once.
    refusals: dict[tuple[Op | None, Reason], Reply] = field(default_factory=dict, compare=False, repr=False)

    def admits(self, ip: str) -> bool:
        """Whether the address is one of the partner's; no list admits every address."""
        if not self.networks:
            return True
        try:
            address = ipaddress.ip_address(ip)
        except ValueError:
            return False
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self.networks)

    def refusal(self, result: Result) -> Reply:
        """The reply to a refused request; one without an id of the caller's in it is made once."""
        if result.key is not None or result.account is not None:
            return self.protocol.encode(result, self.contract, self.keys)
        known = self.refusals.get((result.op, result.reason))
        if known is None:
            known = self.protocol.encode(result, self.contract, self.keys)
            self.refusals[(result.op, result.reason)] = known
        return known


@dataclass(frozen=True, slots=True)
class LoadedContracts:
    """Every partner's binding by code, as of one revision and one instant."""

    revision: int
    by_code: dict[str, Binding]
    by_partner_id: dict[int, Terms]
    broken: tuple[str, ...] = ()


async def load_book(cur: Cursor, passphrase: str, now: datetime) -> LoadedContracts:
    """Read every partner's newest contract and its keys.

    A partner whose contract or key does not parse is left out, logged and named in ``broken``.
    """
    current = await store.revision(cur)
    keys_by_partner = await store.read_keys(cur)
    partners = await store.read_partners(cur)
    transits = await store.read_transits(cur, {partner.currency for partner in partners})
    by_code: dict[str, Binding] = {}
    terms: dict[int, Terms] = {}
    broken: list[str] = []
    for partner in partners:
        try:
            binding = _binding(partner, keys_by_partner.get(partner.partner_id, []), transits, passphrase, now)
        except (ValueError, TypeError, KeyError) as error:
            log.error("partner_is_broken", extra={"partner": partner.code, "error": str(error)})
            broken.append(partner.code)
            continue
        by_code[partner.code] = binding
        terms[partner.partner_id] = binding.terms
    return LoadedContracts(current, by_code, terms, tuple(broken))


def _binding(
    partner: store.StoredContract,
    key_rows: Iterable[store.KeyRow],
    transits: dict[str, int],
    passphrase: str,
    now: datetime,
) -> Binding:
    is_active = partner.state == "active"
    contract = contract_from_json(partner.partner_id, partner.code, partner.version, partner.body, active=is_active)
    if contract.currency != partner.currency:
        raise ContractError(f"contract in {contract.currency}, clearing account in {partner.currency}")
    keys = _usable_keys(partner.code, key_rows, passphrase)
    transit_id = transits[contract.currency]
    terms = Terms(contract, partner.clearing_account_id, transit_id, frozenset(partner.stripping))
    networks = tuple(ipaddress.ip_network(source, strict=False) for source in contract.sources)
    return Binding(contract, PROTOCOLS[contract.protocol], terms, keys, networks, keys_at(keys, now))


def book_at(book: LoadedContracts, now: datetime) -> LoadedContracts:
    """The same book with the keys valid at ``now``; the same object when none came or went."""
    changed = {}
    for code, binding in book.by_code.items():
        keys = keys_at(binding.stored_keys, now)
        if keys != binding.keys:
            changed[code] = Binding(
                binding.contract, binding.protocol, binding.terms, binding.stored_keys, binding.networks, keys
            )
    if not changed:
        return book
    return LoadedContracts(book.revision, {**book.by_code, **changed}, book.by_partner_id, book.broken)


def keys_at(stored: Iterable[StoredKey], now: datetime) -> Keys:
    """The keys valid at ``now``; of several signing keys the one that came into force last signs."""
    valid: dict[str, list[Any]] = {purpose: [] for purpose in PURPOSES}
    for entry in stored:
        if entry.is_valid(now):
            valid[entry.purpose].append(entry.key)
    return Keys(
        verify=tuple(valid["verify"]),
        sign=valid["sign"][0] if valid["sign"] else None,
        basic=tuple(valid["basic"]),
        secrets=tuple(valid["secret"]),
    )


def _usable_keys(code: str, rows: Iterable[store.KeyRow], passphrase: str) -> tuple[StoredKey, ...]:
    """The keys without those that are too short: an old one of those must not go on opening the door."""
    usable = []
    for row in rows:
        stored = _stored_key(row, passphrase)
        if is_too_short(stored.key):
            log.error("key_is_too_short", extra={"partner": code, "key": stored.id, "bits": bits_of(stored.key)})
        else:
            usable.append(stored)
    return tuple(usable)


def _stored_key(row: store.KeyRow, passphrase: str) -> StoredKey:
    key = parse_key(row.purpose, row.material, passphrase)
    return StoredKey(row.key_id, row.purpose, key, row.valid_from, row.valid_to)


class ContractBook:
    """The book as it stands now, kept fresh by polling one number.

    passphrase: opens private keys and secrets. poll_s: how often the number is asked for.
    """

    def __init__(self, core_options: CoreOptions, passphrase: str, poll_s: float) -> None:
        self._connection = Connection(core_options)
        self._passphrase = passphrase
        self._poll_s = poll_s
        self._task: asyncio.Task[None] | None = None
        self.book: LoadedContracts | None = None

    async def start(self) -> None:
        """Read the book, waiting for the database as long as it takes, and keep reading."""
        while self.book is None:
            await self._refresh()
            if self.book is None:
                await asyncio.sleep(0.5)
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stop polling."""
        if self._task is not None:
            await end_tasks([self._task])
        await self._connection.discard()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._poll_s)
            try:
                await self._refresh()
            except Exception:
                # A poll that dies would freeze contracts for ever; the next one may do better.
                log.exception("contracts_not_read")

    async def _refresh(self) -> None:
        now = datetime.now(UTC)
        try:
            current = await at_the_edge(self._connection, store.revision)
            if self.book is None or current != self.book.revision:
                self.book = await at_the_edge(self._connection, lambda cur: read_book(cur, self._passphrase, now))
                metrics.BROKEN_PARTNERS.set(len(self.book.broken))
                log.info("contracts_loaded", extra={"revision": current, "partners": len(self.book.by_code)})
        except DatabaseAway as error:
            log.warning("contracts_not_read", extra={"error": str(error)})
        if self.book is not None:
            self.book = book_at(self.book, now)


async def read_book(cur: Cursor, passphrase: str, now: datetime) -> LoadedContracts:
    """In one snapshot: a change between two of its queries would pair new contracts with old keys."""
    await store.begin_snapshot(cur)
    book = await load_book(cur, passphrase, now)
    await cur.execute("COMMIT")
    return book
