"""Every partner protocol by name, and a partner's contract between its stored JSON and its record.

Rules. A contract is data: connecting, limiting or changing a partner is a new version of this JSON,
made by hand or by a form, so each mistake is refused with one sentence that names the field and what is allowed.
Unknown fields are mistakes. Absent fields take the defaults of ``messages.Contract`` and of the dialect.

Does not know: where contracts and keys are stored, the names of partners.
"""

import ipaddress
import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, fields
from functools import cache
from types import UnionType
from typing import Any, Final, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints
from zoneinfo import ZoneInfo

import msgspec

from adapters import cyberplat, osmp
from adapters.messages import Contract, Protocol, Reason
from adapters.wire import check_pattern, printable
from ratingcore.money import MAX_MINOR

PROTOCOLS: Final[Mapping[str, Protocol]] = {cyberplat.NAME: cyberplat, osmp.NAME: osmp}

MAX_SOURCES: Final = 256
MAX_SERVICES: Final = 256
MAX_SERVICE: Final = 32
#: Windows longer than a century are typing errors.
MAX_WINDOW_S: Final = 100 * 366 * 86_400

DISPLAY_FIELDS: Final = ("name", "balance")
#: Refusals that a later repeat may overturn: what a person at the provider can put right.
RE_EXAMINABLE: Final = frozenset(
    {
        Reason.ACCOUNT_NOT_FOUND,
        Reason.ACCOUNT_INACTIVE,
        Reason.FORBIDDEN,
        Reason.AMOUNT_TOO_SMALL,
        Reason.AMOUNT_TOO_LARGE,
        Reason.BAD_SERVICE,
        Reason.OTHER,
    }
)

_OWN: Final = ("partner_id", "partner", "version", "active")  # columns beside the JSON, not fields of it

_MEANING: Final[Mapping[str, str]] = {
    "protocol": "the protocol the partner speaks: " + ", ".join(PROTOCOLS),
    "currency": "currency of every sum, three letters",
    "time_zone": "zone of the protocol's dates, an IANA name",
    "sources": "networks the partner calls from, such as 192.0.2.0/24; empty lets every address in",
    "services": "service codes the partner may name; empty takes any",
    "account_pattern": "full-match regular expression (RE2) of account numbers, after normalisation",
    "strip_leading_zeros": "drop zeros at the front of account numbers",
    "min_minor": "smallest payment, in minor units",
    "max_minor": "largest payment, in minor units",
    "date_past_s": "how far the partner's date may lie behind, in seconds; null switches it off",
    "date_future_s": "how far the partner's date may lie ahead, in seconds; null switches it off",
    "re_examine": "refusals that a repeat may overturn",
    "display": "account fields the payer's screen may show: " + ", ".join(DISPLAY_FIELDS),
    "cancel_allowed": "the partner may take payments back",
    "cancel_window_s": "until how long after registration, in seconds; null is unlimited",
    "cancel_needs_balance": "only while the account's balance covers the sum",
    "cancel_tombstone": "a cancel that comes before its pay is remembered and refuses the late pay",
    "dialect": "settings of the protocol itself",
}


class FieldNote(NamedTuple):
    """One line of the table of settings. name has the prefix ``dialect.`` for a dialect's own."""

    name: str
    type: str
    default: str
    meaning: str


def contract_from_json(partner_id: int, partner: str, version: int, body: Mapping[str, Any], active: bool) -> Contract:
    """A stored contract as the record that adapters and gateway read.

    Raises:
        ValueError: one sentence that names the first wrong field and says what is allowed.
    """
    if not isinstance(body, Mapping):
        raise ValueError("a contract must be an object of fields")
    protocol = PROTOCOLS.get(str(body.get("protocol")))
    if protocol is None:
        raise ValueError(f"protocol must be one of {', '.join(PROTOCOLS)}")
    settings = body.get("dialect", {})
    if not isinstance(settings, Mapping):
        raise ValueError("dialect must be an object of fields")
    dialect = protocol.Dialect(**_converted(protocol.Dialect, settings, "dialect."))
    values = _converted(Contract, {name: value for name, value in body.items() if name != "dialect"}, "")
    contract = Contract(
        partner_id=partner_id, partner=partner, version=version, active=active, dialect=dialect, **values
    )
    _check_common(contract)
    protocol.check_settings(contract)
    return contract


def cautions(contract: Contract) -> list[str]:
    """What a contract allows and a person should have meant: one sentence each."""
    dialect = contract.dialect
    said = []
    if not getattr(dialect, "require_signature", True) or not getattr(dialect, "require_basic", True):
        said.append("callers need not prove who they are (require_signature or require_basic is off): never for money")
    if getattr(dialect, "cancel", "off") != "off" and getattr(dialect, "cancel_unknown_code", 300) == 0:
        said.append(
            "a cancel of a payment we do not have is answered with success (dialect.cancel_unknown_code is 0): "
            "a partner that believes it gives cash back"
        )
    return said


def contract_to_json(contract: Contract) -> dict[str, Any]:
    """The contract's JSON, complete and in a stable order: what `contract_from_json` reads back as an equal record."""
    body = {field.name: _plain(getattr(contract, field.name)) for field in _json_fields(Contract)}
    dialect = {field.name: _plain(getattr(contract.dialect, field.name)) for field in fields(contract.dialect)}
    return {**body, "dialect": dialect}


def default_body(protocol: str) -> dict[str, Any]:
    """The JSON of a new contract with every default written out, for a person to edit.

    Raises:
        ValueError: an unknown protocol.
    """
    return contract_to_json(contract_from_json(0, "new", 1, {"protocol": protocol}, True))


def describe_fields(protocol: str | None = None) -> list[FieldNote]:
    """Every field of a contract with type, default and meaning; with a protocol's name its dialect's fields too.

    Raises:
        ValueError: an unknown protocol.
    """
    notes = [_note(Contract, field, "", _MEANING[field.name]) for field in _json_fields(Contract)]
    if protocol is None:
        return notes
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol must be one of {', '.join(PROTOCOLS)}")
    dialect = PROTOCOLS[protocol].Dialect
    return notes + [_note(dialect, field, "dialect.", field.metadata["meaning"]) for field in fields(dialect)]


# ---- fields and their types ----


@cache
def _types(record: type) -> Mapping[str, Any]:
    return get_type_hints(record)


def _json_fields(record: type) -> Iterator[Field[Any]]:
    """Fields that stand in the JSON as values; a contract's dialect is an object of its own."""
    return (field for field in fields(record) if field.name not in _OWN and field.name != "dialect")


def _converted(record: type, body: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The body's values in the types of the record's fields."""
    allowed = {field.name for field in _json_fields(record)}
    values: dict[str, Any] = {}
    for name, value in body.items():
        if name not in allowed:
            shown = printable(str(name))[:40]
            raise ValueError(f"{prefix}{shown} is not a field; fields are {', '.join(sorted(allowed))}")
        wanted = _types(record)[name]
        try:
            values[name] = msgspec.convert(value, wanted)
        except msgspec.ValidationError:
            raise ValueError(f"{prefix}{name} must be {_type_words(wanted)}") from None
    return values


def _plain(value: Any) -> Any:
    if isinstance(value, frozenset):
        return sorted(str(item) for item in value)
    if isinstance(value, tuple):
        return list(value)
    return value


def _note(record: type, field: Field[Any], prefix: str, meaning: str) -> FieldNote:
    default = "" if field.default is MISSING else msgspec.json.encode(_plain(field.default)).decode()
    return FieldNote(prefix + field.name, _type_words(_types(record)[field.name]), default, meaning)


_PLAIN_WORDS: Final[Mapping[Any, str]] = {
    bool: "true or false",
    int: "a whole number",
    str: "a text",
    type(None): "null",
    tuple: "a list of texts",
    Reason: "a reason",
}


def _type_words(wanted: Any) -> str:
    """A field's type in words, for the table and for refusals."""
    wanted = getattr(wanted, "__supertype__", wanted)  # Minor is a whole number to whoever writes JSON
    origin = get_origin(wanted)
    if origin is Literal:
        return "one of " + ", ".join(str(choice) for choice in get_args(wanted))
    if origin in (Union, UnionType):
        return " or ".join(_type_words(choice) for choice in get_args(wanted))
    if origin is frozenset:
        return "a list of " + ", ".join(sorted(RE_EXAMINABLE))
    return _PLAIN_WORDS[origin or wanted]


# ---- what types cannot say ----


def _check_common(contract: Contract) -> None:
    if re.fullmatch("[A-Z]{3}", contract.currency) is None:
        raise ValueError("currency must be three capital letters, such as RUB")
    if not _is_zone(contract.time_zone):
        raise ValueError("time_zone must be an IANA time zone, such as Europe/Moscow")
    _check_lists(contract)
    check_pattern("account_pattern", contract.account_pattern)
    if not 1 <= contract.min_minor <= contract.max_minor <= MAX_MINOR:
        raise ValueError(f"min_minor and max_minor must satisfy 1 <= min_minor <= max_minor <= {MAX_MINOR}")
    for name in ("date_past_s", "date_future_s", "cancel_window_s"):
        seconds = getattr(contract, name)
        if seconds is not None and not 0 <= seconds <= MAX_WINDOW_S:
            raise ValueError(f"{name} must be null or 0 to {MAX_WINDOW_S} seconds")


def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (ValueError, OSError, LookupError):  # a bad path, a folder of the database, no such zone
        return False
    return True


def _check_lists(contract: Contract) -> None:
    if len(contract.sources) > MAX_SOURCES:
        raise ValueError(f"sources must be at most {MAX_SOURCES} networks")
    for source in contract.sources:
        try:
            ipaddress.ip_network(source)
        except ValueError as error:
            raise ValueError(f"sources must be addresses or networks such as 192.0.2.0/24: {error}") from None
    if len(contract.services) > MAX_SERVICES or len(set(contract.services)) != len(contract.services):
        raise ValueError(f"services must be at most {MAX_SERVICES} different codes")
    if not all(1 <= len(service) <= MAX_SERVICE for service in contract.services):
        raise ValueError(f"services must be codes of 1 to {MAX_SERVICE} characters")
    if not contract.re_examine <= RE_EXAMINABLE:
        raise ValueError(f"re_examine must be among {', '.join(sorted(RE_EXAMINABLE))}")
    if not set(contract.display) <= set(DISPLAY_FIELDS) or len(set(contract.display)) != len(contract.display):
        raise ValueError(f"display must be different names among {', '.join(DISPLAY_FIELDS)}")
