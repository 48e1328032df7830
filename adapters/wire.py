"""Bytes on the wire as form-and-XML dialects need them: urlencoded forms, dates, XML text, masked copies.

Rules. Percent-decoding is strict: a stray ``%``, a raw byte outside ASCII or a byte the charset does not have is
nonsense, not a question mark. Text that leaves here is safe for PostgreSQL and for XML: no control characters, no
surrogates. What is said about a request never quotes a value, for values may be secrets.

Does not know: any dialect's parameters, codes or signatures.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, TypeVar
from xml.etree import ElementTree
from zoneinfo import ZoneInfo

import re2

from adapters.messages import Contract, DecodeError, Op, RawRequest, Reason
from ratingcore.money import Minor, parse_minor

#: A partner sends at most ten parameters; what has more is not a partner's request.
MAX_PARAMETERS: Final = 40
#: Characters of one decoded value. Accounts and keys are limited further by their columns (64).
MAX_VALUE: Final = 255
MAX_ACCOUNT: Final = 64
#: Characters of a masked request or reply that are kept for a person to read.
MAX_SCRUBBED: Final = 4096
#: Characters of a contract's regular expression.
MAX_PATTERN: Final = 200
#: Bytes of a reply that the client side is ready to read.
MAX_REPLY: Final = 1_000_000

MASK: Final = "***"

_T = TypeVar("_T")


class Nonsense(ValueError):
    """A request that is no request, on its way from the line that saw it to the DecodeError that tells it."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail

    def told(
        self, op: Op | None = None, key: str | None = None, account: str | None = None, *, is_proven: bool = False
    ) -> DecodeError:
        return DecodeError(self.reason, self.detail, op, key, account, is_proven)


def setting(default: _T, meaning: str) -> _T:
    """A field of a ``Dialect``: its default and what it means to a person (`protocols.describe_fields`)."""
    return field(default=default, metadata={"meaning": meaning})


def check_pattern(name: str, pattern: str) -> None:
    """Refuse what is no regular expression, and what cannot be matched in linear time.

    One pattern that backtracks stops every partner of the process: ``([0-9]+)+x`` took minutes over 27 digits. So
    patterns are those of RE2: no back-references, no look-around, and the classes of digits and letters are ASCII.

    Raises:
        ValueError: names the field and what is allowed.
    """
    if not 1 <= len(pattern) <= MAX_PATTERN:
        raise ValueError(f"{name} must be a regular expression of 1 to {MAX_PATTERN} characters")
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"{name} must be a regular expression: {error}") from None
    try:
        _compiled(pattern)
    except re2.error as error:
        told = printable(b" ".join(error.args).decode("utf-8", "replace"))
        raise ValueError(
            f"{name} must be a regular expression that is matched in linear time, as RE2 has them "
            f"(no look-around, no back-reference, repetitions up to 1000): {told}"
        ) from None


_OPTIONS: Final = re2.Options()
_OPTIONS.log_errors = False


# Characters and classes with counts, of which one at most varies: there is nothing to go back to, so Python's own
# engine is linear too, and 40 times faster than the way into RE2 and back (0.6 us against 25).
_ATOM: Final = r"(?:\[\^?[^\]\[\\^]+\]|\\[d.+-]|[A-Za-z0-9 ._@:/-])"
_PLAIN: Final = re.compile(
    rf"(?:{_ATOM}(?:\{{[0-9]+\}})?)*(?:{_ATOM}(?:\{{[0-9]+,[0-9]*\}}|[*+?]))?(?:{_ATOM}(?:\{{[0-9]+\}})?)*"
)


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> Any:
    if _PLAIN.fullmatch(pattern):
        return re.compile(pattern, re.ASCII)
    return re2.compile(pattern, _OPTIONS)


def fits(pattern: str, text: str) -> bool:
    """Whether the whole text matches a contract's pattern, in time linear in the text."""
    return _compiled(pattern).fullmatch(text) is not None


# ---- forms ----


def form_bytes(raw: RawRequest, *, post: bool) -> bytes:
    """The urlencoded parameters, raw: the query of a GET; of a POST its body, or its query when there is no body.

    Raises:
        Nonsense: another method, a POST where ``post`` is off, or parameters in both places.
    """
    if raw.method == "GET":
        return raw.query
    if raw.method != "POST" or not post:
        raise Nonsense(Reason.BAD_REQUEST, "the method is not one this contract allows")
    body = raw.body.strip(b" \t\r\n")  # clients end a body with CRLF; it belongs to no value
    if body and raw.query:
        raise Nonsense(Reason.BAD_REQUEST, "parameters stand both in the query and in the body")
    return body or raw.query


def split_form(data: bytes) -> dict[str, bytes]:
    """``name=value&...`` to values that are still percent-encoded, in order.

    Raises:
        Nonsense: an empty or doubled parameter, one without ``=``, a name that is not plain ASCII, too many.
    """
    values: dict[str, bytes] = {}
    if not data:
        return values
    pieces = data.split(b"&", MAX_PARAMETERS)
    if len(pieces) > MAX_PARAMETERS:
        raise Nonsense(Reason.BAD_REQUEST, f"more than {MAX_PARAMETERS} parameters")
    for piece in pieces:
        name, equals, value = piece.partition(b"=")
        if not equals or not name:
            raise Nonsense(Reason.BAD_REQUEST, "a parameter without a name or without an equals sign")
        if not name.isascii():
            raise Nonsense(Reason.BAD_REQUEST, "a parameter's name is not ASCII")
        word = name.decode("ascii")
        if word in values:
            raise Nonsense(Reason.BAD_REQUEST, "a parameter is given twice")
        values[word] = value
    return values


_BAD_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_ESCAPE: Final = re.compile(rb"%(..)", re.DOTALL)
# C0 and C1 controls, DEL, surrogates and the two noncharacters XML refuses. U+FEFF is invisible and never meant.
_FORBIDDEN: Final = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufeff\ufffe\uffff]")


def decode_text(value: bytes, charset: str) -> str:
    """One percent-encoded value to text.

    Raises:
        ValueError: broken percent-encoding, bytes the charset does not have, control characters, too long.
    """
    if not value.isascii():
        raise ValueError("bytes outside ASCII that are not percent-encoded")
    if b"+" in value:
        value = value.replace(b"+", b" ")
    if b"%" in value:
        if _BAD_ESCAPE.search(value):
            raise ValueError("broken percent-encoding")
        value = _ESCAPE.sub(lambda escape: bytes((int(escape[1], 16),)), value)
    try:
        text = value.decode(charset)
    except UnicodeDecodeError:
        raise ValueError(f"bytes that are not {charset}") from None
    if _FORBIDDEN.search(text):
        raise ValueError("control characters")
    if len(text) > MAX_VALUE:
        raise ValueError(f"longer than {MAX_VALUE} characters")
    return text


def required(values: Mapping[str, bytes], name: str, reason: Reason, charset: str) -> str:
    """The named value as text; absent, empty or undecodable is ``reason``."""
    value = values.get(name)
    if not value:
        raise Nonsense(reason, f"{name} is missing or empty")
    try:
        return decode_text(value, charset)
    except ValueError as error:
        raise Nonsense(reason, f"{name} holds {error}") from None


def peeked(values: Mapping[str, bytes], name: str, charset: str) -> str | None:
    """The named value where it can be read at all and could be kept: for echo and search after an error."""
    value = values.get(name)
    if not value:
        return None
    try:
        text = decode_text(value, charset)
    except ValueError:
        return None
    return text if len(text) <= MAX_ACCOUNT else None


_UNRESERVED: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~:")
_QUOTED: Final = tuple(chr(byte) if byte in _UNRESERVED else f"%{byte:02X}" for byte in range(256))


def quote(text: str, charset: str) -> str:
    """Text percent-encoded for a query. A colon stays: it is allowed there, and partners send it so in dates.

    Raises:
        ValueError: a character the charset does not have.
    """
    return "".join([_QUOTED[byte] for byte in text.encode(charset)])


def form(pairs: Iterable[tuple[str, str]], charset: str) -> bytes:
    """Pairs to an urlencoded query, in order."""
    return "&".join([f"{name}={quote(value, charset)}" for name, value in pairs]).encode("ascii")


# ---- values ----


def is_digits(text: str, least: int, most: int) -> bool:
    """ASCII digits only; ``str.isdigit`` alone also takes superscripts and other scripts."""
    return least <= len(text) <= most and text.isascii() and text.isdigit()


def account_of(text: str, contract: Contract) -> str:
    """The account number, normalised. Its pattern is held by the gateway, for new payments only."""
    account = text.lstrip("0") or "0" if contract.strip_leading_zeros else text
    if len(account) > MAX_ACCOUNT:
        raise Nonsense(Reason.BAD_ACCOUNT_FORMAT, f"the account number is longer than {MAX_ACCOUNT} characters")
    return account


def hold_to_contract(account: str, service: str, contract: Contract) -> None:
    """A check's account and service against the contract; a pay's are the gateway's, who knows repeats."""
    if not fits(contract.account_pattern, account):
        raise Nonsense(Reason.BAD_ACCOUNT_FORMAT, "the account number does not match the contract's pattern")
    if contract.services and service not in contract.services:
        raise Nonsense(Reason.BAD_SERVICE, "the service is none of the contract's")


def amount_of(text: str, max_chars: int, *, comma: bool = False) -> Minor:
    """A sum with a dot and at most two decimals; zero is allowed here."""
    if comma:
        text = text.replace(",", ".", 1)
    if len(text) > max_chars:
        raise Nonsense(Reason.BAD_AMOUNT, f"the sum is longer than {max_chars} characters")
    try:
        return parse_minor(text)
    except ValueError:
        raise Nonsense(Reason.BAD_AMOUNT, "the sum is not a number with a dot and at most two decimals") from None


@lru_cache(maxsize=64)
def zone_of(name: str) -> ZoneInfo:
    """The time zone; `protocols.contract_from_json` has made sure that it exists."""
    return ZoneInfo(name)


# Wide enough for anything real, narrow enough that no zone can push an instant out of Python's range.
_FIRST_YEAR: Final = 2000
_LAST_YEAR: Final = 2199


def local_time(iso: str, zone_name: str) -> datetime:
    """``YYYY-MM-DDTHH:MM:SS`` (shape already checked) in the zone, as UTC.

    A wall-clock time that a summer-time change skipped or repeated is taken by the offset before the change:
    a clock's fault must not refuse money.

    Raises:
        Nonsense: no such date or time, or a year out of range.
    """
    try:
        moment = datetime.fromisoformat(iso)
    except ValueError:
        raise Nonsense(Reason.BAD_DATE, "there is no such date or time") from None
    if not _FIRST_YEAR <= moment.year <= _LAST_YEAR:
        raise Nonsense(Reason.BAD_DATE, f"the year is not between {_FIRST_YEAR} and {_LAST_YEAR}")
    return moment.replace(tzinfo=zone_of(zone_name)).astimezone(UTC)


def wall_clock(moment: datetime, zone_name: str) -> str:
    """An instant as ``YYYY-MM-DDTHH:MM:SS`` in the zone; fractions of a second are cut, never rounded up."""
    return moment.astimezone(zone_of(zone_name)).isoformat(timespec="seconds")[:19]


# ---- XML ----

_MARKUP: Final = re.compile("[&<>\"'\x00-\x1f\x7f-\x9f\ud800-\udfff\ufeff\ufffe\uffff]")
_ENTITIES: Final = {
    "&": "&amp;",
    "<": "&lt;",
    ">": "&gt;",
    '"': "&quot;",
    "'": "&#39;",
    **dict.fromkeys("\t\n\r", " "),
}


def xml_text(text: str) -> str:
    """Text for an element or a quoted attribute: markup escaped, white space kept as blanks, controls dropped."""
    if _MARKUP.search(text) is None:
        return text
    return _MARKUP.sub(lambda found: _ENTITIES.get(found[0], ""), text)


class _Elements(ElementTree.TreeBuilder):
    """ElementTree's builder, but a document type is refused: its entities can explode."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        """Called by the parser for ``<!DOCTYPE``, whatever the encoding."""
        raise ValueError("the reply declares a document type")


def parse_xml(body: bytes) -> ElementTree.Element:
    """A reply's root element. Stray text between elements is ignored by whoever reads by name.

    Raises:
        ValueError: not XML, a document type, or larger than MAX_REPLY.
    """
    if len(body) > MAX_REPLY:
        raise ValueError(f"the reply is larger than {MAX_REPLY} bytes")
    try:
        return ElementTree.fromstring(body, ElementTree.XMLParser(target=_Elements()))
    except (ElementTree.ParseError, LookupError):
        raise ValueError("the reply is not XML") from None


def first_values(root: ElementTree.Element) -> dict[str, str]:
    """Each child's text by its name; of a repeated child the first that is not empty."""
    values: dict[str, str] = {}
    for child in root:
        text = (child.text or "").strip()
        if not values.get(child.tag):
            values[child.tag] = text
    return values


# ---- masked copies ----

_SECRET_NAMES: Final = frozenset(
    {
        *("sign", "signature", "hash", "password", "passwd", "pass", "pwd", "secret", "token", "auth", "authorization"),
        *("pan", "card", "card_number", "cvv", "cvc", "cvv2", "cvc2", "pin"),
    }
)
_WORDS: Final = "|".join(sorted(_SECRET_NAMES))
# The same words in a body that is not a form: JSON, XML, header lines.
_SECRET_IN_TEXT: Final = re.compile(
    rf"""(?i)(\b(?:{_WORDS})\b["']?\s*[=:>]\s*)("[^"]*"?|'[^']*'?|[^"'&<\r\n][^&<\r\n]*)"""
)
_BLANKS: Final = r"(?:[\s+]|%(?:20|09|0[a-d]|1[c-f]|85|a0))*+"


def _letter(letter: str) -> str:
    return f"(?:{letter}|%{ord(letter):02x}|%{ord(letter.upper()):02x})"


# A parameter's name as a sloppy server would read it: any case, each letter perhaps percent-encoded, blanks around.
_SECRET_IN_FORM: Final = re.compile(
    "(?i)((?:^|&)"
    + _BLANKS
    + f"(?:{'|'.join([''.join([_letter(letter) for letter in word]) for word in sorted(_SECRET_NAMES)])})"
    + _BLANKS
    + "=)[^&]*"
)


def cut_request(raw: RawRequest, most: int = MAX_SCRUBBED) -> RawRequest:
    """The beginning of a request, enough for a masked copy of ``most`` characters: what may wait in a buffer.

    A number that the cut runs through is left out: half a card number would not be known for one.
    """
    query, body = raw.query, raw.body
    if len(query) > most:
        query = _without_last_number(query[:most])
    if len(body) > most:
        body = _without_last_number(body[:most])
    authorization = {"authorization": MASK} if "authorization" in raw.headers else {}
    return RawRequest(raw.method[:20], raw.path[:100], query, body, authorization, raw.remote_ip)


def _without_last_number(data: bytes) -> bytes:
    return data.rstrip(b"0123456789 +-%")


def scrubbed_request(raw: RawRequest, charset: str, most: int = MAX_SCRUBBED) -> str:
    """The request as printable text for a person: method, path, query, whether it carried Authorization, body.

    At most ``most`` characters; no more than that of query and body is looked at. Values of secret parameters are
    masked by name. Percent-encoding stays, for it is evidence. Card numbers are masked by `adapters.cards`, by a caller
    that knows which numbers are accounts.
    """
    raw = cut_request(raw, most)
    lines = [f"{raw.method} {raw.path}"]
    if raw.query:
        lines[0] += "?" + _masked_form(raw.query.decode("latin-1"))
    if "authorization" in raw.headers:
        lines.append(f"Authorization: {MASK}")
    if raw.body:
        text = raw.body.decode(charset, "replace")
        lines += ["", _SECRET_IN_TEXT.sub(rf"\1{MASK}", _masked_form(text))]
    return "\n".join([printable(line) for line in lines])[:most]


def scrubbed_reply(body: bytes, charset: str, pattern: re.Pattern[str]) -> str:
    """A reply as printable text; what ``pattern`` finds between its first two groups is masked."""
    text = pattern.sub(rf"\1{MASK}\2", body[: 2 * MAX_SCRUBBED].decode(charset, "replace"))
    return "\n".join([printable(line) for line in text.split("\n")])[:MAX_SCRUBBED]


def _escape(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


#: Everything invisible of the basic plane, written as an escape.
_ESCAPES: Final = {code: _escape(code) for code in range(0x10000) if not chr(code).isprintable()}


def printable(text: str) -> str:
    """Text in which everything invisible is written as an escape."""
    if text.isprintable():
        return text
    text = text.translate(_ESCAPES)
    # Invisible beyond the basic plane: a table for that would be large, so the whole text becomes escapes.
    return text if text.isprintable() else text.encode("ascii", "backslashreplace").decode("ascii")


def _masked_form(text: str) -> str:
    """A form of no more parameters than partners send goes piece by piece, which is ten times faster for those few."""
    pieces = text.split("&", MAX_PARAMETERS)
    if len(pieces) > MAX_PARAMETERS:
        return _SECRET_IN_FORM.sub(rf"\1{MASK}", text)
    return "&".join([_masked_piece(piece) for piece in pieces])


def _masked_piece(piece: str) -> str:
    name, equals, _ = piece.partition("=")
    if not equals or ("%" not in name and "+" not in name and name.strip().lower() not in _SECRET_NAMES):
        return piece
    return _SECRET_IN_FORM.sub(rf"\1{MASK}", piece)


def as_reply_code(value: Any) -> int:
    """A reply's code as a number.

    Raises:
        ValueError: absent or not a short integer.
    """
    if not isinstance(value, str) or re.fullmatch(r"-?[0-9]{1,9}", value) is None:
        raise ValueError("the reply has no result code")
    return int(value)
