"""The OSMP (QIWI) provider protocol and its family: ``command=check|pay``, XML in UTF-8, HTTP Basic.

Pegas, Ibox, Novoplat, Rapida, Pay24, Neoline and others speak it with another name of the id element and some verbs
more; each difference is a setting. Sources: OSMP's document for providers (sample address ``payment_app.cgi``) as open
billing systems quote and speak it (ABillS' Paysys modules, Ubilling's openpayz), and QIWI's published list of errors.

Rules. 300 and 8 are fatal to the payment, so nothing of our own making is ever answered with them: that is 1, and 90
while in work. Order of checks: access, command, txn_id, account, prv_id, sum, txn_date. Business answers are HTTP 200;
failed Basic is 401 and a foreign address 403, both without an OSMP answer in them, so the partner repeats.
Unknown parameters are ignored, as the protocol tells providers; doubled ones are refused.

Long because a partner's protocol is one file, and every one has the same order: settings, codes, decode, encode, scrub,
the client side. It is read once, from the request to the reply; the next partner's is written by comparing file with
file.

Does not know: balances, payments, limits of the contract (bounds, services, account pattern and date window are the
gateway's, who knows repeats: a credited payment must never be refused because a limit moved).
"""

import binascii
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from hmac import compare_digest
from typing import Final, Literal

from adapters import wire
from adapters.cards import mask_cards
from adapters.messages import (
    Balance,
    Cancel,
    Check,
    Contract,
    DecodeError,
    Keys,
    Op,
    ParsedReply,
    Pay,
    RawRequest,
    Reason,
    Registry,
    RegistryLine,
    Reply,
    Request,
    Result,
    Status,
)
from adapters.wire import Nonsense, setting
from ratingcore.money import Minor, format_minor, parse_minor

NAME: Final = "osmp"


@dataclass(frozen=True, slots=True)
class Dialect:
    """What differs between partners of the family."""

    id_element: str = setting("osmp_txn_id", "name of the reply element that echoes txn_id")
    require_basic: bool = setting(True, "false lets in calls without HTTP Basic while the contract has no basic key")
    post: bool = setting(False, "an urlencoded POST is taken as well as GET")
    charset: Literal["utf-8", "windows-1251"] = setting("utf-8", "charset of percent-encoded request values")
    optional_sum_in_check: bool = setting(False, "sum may be absent from check")
    optional_txn_date: bool = setting(False, "txn_date may be absent from pay; the payment's time is then ours")
    refuse_padded_id: bool = setting(
        False, "refuse a txn_id with zeros in front: ids are texts, so a partner that pads a repeat would pay twice"
    )
    extras: tuple[str, ...] = setting((), "names of further request parameters that are kept with the payment")
    cancel: Literal["off", "prv_txn", "cancel_txn_id"] = setting(
        "off", "form of command=cancel: by our number (Pegas, ABillS), or by txn_id and cancel_txn_id (Ibox)"
    )
    cancel_unknown_code: int = setting(0, "answer to a cancel of an unknown payment; Pegas expects 0, Ibox needs 300")
    cancel_impossible_code: Literal[79, 251] = setting(251, "answer to a cancel that is not possible")
    status: Literal["off", "txn_id", "balance"] = setting(
        "off", "form of command=status: of a payment by txn_id, or the balance (Pegas)"
    )
    verify: bool = setting(False, "command=verify lists a day's payments")
    balance: bool = setting(False, "command=balance tells the balance")
    conflict_code: int = setting(300, "answer to the same txn_id with another account or sum; some take 215")
    comments: Literal["en", "ru"] = setting("en", "language of comment")
    field_type: str = setting("", "type attribute of the display fields, such as disp; empty sends none")
    reply_content_type: str = setting("text/xml", "media type of replies, without charset")


MAX_ID_DIGITS: Final = 20
MAX_SERVICE_DIGITS: Final = 20
MAX_SUM_CHARS: Final = 17
MAX_BASIC: Final = 512
_INT64: Final = 2**63

# ---- codes (OSMP's list; a reason it has no code for takes the code of the nearest in meaning and finality) ----

_CODE: Final[Mapping[Reason, int]] = {
    Reason.OK: 0,
    Reason.DUPLICATE_OK: 0,
    Reason.IN_PROGRESS: 90,
    Reason.TEMPORARY: 1,
    Reason.BAD_REQUEST: 300,
    Reason.UNKNOWN_VERB: 300,
    Reason.BAD_SERVICE: 300,
    Reason.BAD_ACCOUNT_FORMAT: 4,
    Reason.ACCOUNT_NOT_FOUND: 5,
    Reason.ACCOUNT_INACTIVE: 79,
    Reason.FORBIDDEN: 7,
    Reason.BAD_AMOUNT: 300,
    Reason.AMOUNT_TOO_SMALL: 241,
    Reason.AMOUNT_TOO_LARGE: 242,
    Reason.BAD_EXT_ID: 300,
    Reason.BAD_DATE: 300,
    Reason.BAD_EXTRAS: 300,
    Reason.PAYMENT_NOT_FOUND: 300,
    Reason.ALREADY_CANCELLED: 300,
    Reason.OTHER: 300,
}

#: Answered by HTTP alone (status, challenge): whoever is not let in learns nothing of the protocol.
_HTTP_STATUS: Final[Mapping[Reason, int]] = {Reason.BAD_SIGNATURE: 401, Reason.BAD_SOURCE: 403}


def result_code(reason: Reason, op: Op | None, dialect: Dialect) -> int:
    """The protocol's code, or 401 and 403 for what HTTP answers; total over every reason and operation."""
    if reason in _HTTP_STATUS:
        return _HTTP_STATUS[reason]
    if reason is Reason.CONFLICT:
        return dialect.conflict_code
    if reason is Reason.CANCEL_IMPOSSIBLE:
        return dialect.cancel_impossible_code
    if op is Op.CANCEL and reason is Reason.PAYMENT_NOT_FOUND:
        return dialect.cancel_unknown_code
    if op is Op.CANCEL and reason is Reason.ALREADY_CANCELLED:
        return 0
    return _CODE[reason]


#: (English, Russian) per reason.
_COMMENT: Final[Mapping[Reason, tuple[str, str]]] = {
    Reason.OK: ("OK", "OK"),
    Reason.DUPLICATE_OK: ("OK", "OK"),
    Reason.IN_PROGRESS: ("Payment is in progress, repeat later", "Платеж в обработке, повторите запрос"),
    Reason.TEMPORARY: ("Temporary error, repeat later", "Временная ошибка, повторите запрос позже"),
    Reason.BAD_REQUEST: ("Bad request", "Неверный запрос"),
    Reason.UNKNOWN_VERB: ("Unknown command", "Неизвестная команда"),
    Reason.BAD_SIGNATURE: ("Authorization failed", "Ошибка авторизации"),
    Reason.BAD_SOURCE: ("Sender's address is not allowed", "Адрес отправителя не разрешен"),
    Reason.BAD_SERVICE: ("Unknown service", "Неизвестная услуга"),
    Reason.BAD_ACCOUNT_FORMAT: ("Wrong format of the account", "Неверный формат лицевого счета"),
    Reason.ACCOUNT_NOT_FOUND: ("Account not found", "Лицевой счет не найден"),
    Reason.ACCOUNT_INACTIVE: ("Account is not active", "Лицевой счет не активен"),
    Reason.FORBIDDEN: ("Payments are not accepted", "Прием платежей запрещен"),
    Reason.BAD_AMOUNT: ("Wrong sum", "Неверная сумма"),
    Reason.AMOUNT_TOO_SMALL: ("Sum is too small", "Сумма слишком мала"),
    Reason.AMOUNT_TOO_LARGE: ("Sum is too large", "Сумма слишком велика"),
    Reason.BAD_EXT_ID: ("Wrong payment number", "Неверный номер платежа"),
    Reason.BAD_DATE: ("Wrong date", "Неверная дата"),
    Reason.BAD_EXTRAS: ("Wrong additional parameter", "Неверный дополнительный параметр"),
    Reason.CONFLICT: (
        "Payment number exists with other requisites",
        "Платеж с таким номером уже принят с другими реквизитами",
    ),
    Reason.PAYMENT_NOT_FOUND: ("Payment not found", "Платеж не найден"),
    Reason.ALREADY_CANCELLED: ("Payment is cancelled", "Платеж отменен"),
    Reason.CANCEL_IMPOSSIBLE: ("Payment cannot be cancelled", "Платеж не может быть отменен"),
    Reason.OTHER: ("Payment is declined", "Платеж отклонен"),
}


def _comment(result: Result, dialect: Dialect) -> str:
    if result.comment is not None:
        return result.comment
    if result.op is Op.CHECK and result.reason is Reason.OK:
        return ""  # terminals show it to the payer; the document's own example leaves it empty
    return _COMMENT[result.reason][1 if dialect.comments == "ru" else 0]


# ---- decode ----

#: Parameters of the base protocol that are kept with the payment.
KEPT: Final = ("sum_from", "trm_id", "terminal")

_DATE_TIME: Final = re.compile(r"[0-9]{14}", re.ASCII)
_DATE: Final = re.compile(r"[0-9]{8}", re.ASCII)


def decode(raw: RawRequest, contract: Contract, keys: Keys, now: datetime) -> Request | DecodeError:
    """One call to a request of the waist, or to the DecodeError that says what is wrong with it."""
    dialect: Dialect = contract.dialect
    op: Op | None = None
    values: dict[str, bytes] = {}
    is_proven = False
    try:
        _let_in(raw.headers.get("authorization", ""), dialect, keys)
        is_proven = bool(keys.basic or contract.sources)
        values = wire.split_form(wire.form_bytes(raw, post=dialect.post))
        op = _op(values, dialect)
        return _READ[op](values, contract, dialect, now)
    except Nonsense as nonsense:
        key = wire.peeked(values, "txn_id", dialect.charset)
        return nonsense.told(op, key, wire.peeked(values, "account", dialect.charset), is_proven=is_proven)


def _let_in(authorization: str, dialect: Dialect, keys: Keys) -> None:
    """HTTP Basic against every key that is valid now; each comparison takes the same time."""
    if not keys.basic:
        if dialect.require_basic:
            raise Nonsense(Reason.BAD_SIGNATURE, "HTTP Basic is demanded and no key for it is valid now")
        return
    scheme, _, word = authorization.partition(" ")
    if scheme.lower() != "basic" or len(word) > MAX_BASIC:
        raise Nonsense(Reason.BAD_SIGNATURE, "no HTTP Basic authorization")
    try:
        credentials = binascii.a2b_base64(word.strip().encode("ascii"), strict_mode=True)
    except ValueError:
        raise Nonsense(Reason.BAD_SIGNATURE, "the HTTP Basic authorization is not base64") from None
    given = sha256(credentials).hexdigest().encode("ascii")
    fitting = [key for key in keys.basic if compare_digest(given, key.encode("utf-8"))]  # all of them, whichever fits
    if not fitting:
        raise Nonsense(Reason.BAD_SIGNATURE, "HTTP Basic with a wrong user or password")


def _op(values: Mapping[str, bytes], dialect: Dialect) -> Op:
    command = wire.required(values, "command", Reason.UNKNOWN_VERB, dialect.charset)
    op = {
        "check": Op.CHECK,
        "pay": Op.PAY,
        "cancel": None if dialect.cancel == "off" else Op.CANCEL,
        "status": _STATUS_OPS[dialect.status],
        "verify": Op.REGISTRY if dialect.verify else None,
        "balance": Op.BALANCE if dialect.balance else None,
    }.get(command)
    if op is None:
        raise Nonsense(Reason.UNKNOWN_VERB, "command is none that this contract allows")
    return op


_STATUS_OPS: Final[Mapping[str, Op | None]] = {"off": None, "txn_id": Op.STATUS, "balance": Op.BALANCE}


def _check(values: Mapping[str, bytes], contract: Contract, dialect: Dialect, now: datetime) -> Check:
    del now  # a check has no date
    key = _id(values, "txn_id", dialect)
    account = _account(values, contract, dialect)
    service = _service(values, dialect)
    wire.hold_to_contract(account, service, contract)
    amount = None
    if "sum" in values or not dialect.optional_sum_in_check:
        # Terminals that only look an account up send 0.00: a check of no sum.
        amount = _sum(values, dialect) or None
    return Check(account, service, amount, key, _extras(values, dialect))


def _pay(values: Mapping[str, bytes], contract: Contract, dialect: Dialect, now: datetime) -> Pay:
    # The date's window is for new payments only, so the gateway looks at it.
    key = _key(values, dialect)
    account = _account(values, contract, dialect)
    service = _service(values, dialect)
    amount = _sum(values, dialect)
    if amount == 0:
        raise Nonsense(Reason.AMOUNT_TOO_SMALL, "the sum is zero")
    partner_time = now
    if "txn_date" in values or not dialect.optional_txn_date:
        partner_time = _txn_date(values, contract, dialect)
    return Pay(key, account, amount, service, partner_time, _extras(values, dialect))


def _cancel(values: Mapping[str, bytes], contract: Contract, dialect: Dialect, now: datetime) -> Cancel:
    del contract, now
    if dialect.cancel == "cancel_txn_id":
        key = _key(values, dialect)
        cancel_key = _id(values, "cancel_txn_id", dialect)
        return Cancel(key=key, cancel_key=cancel_key, amount=_sum(values, dialect), extras=_extras(values, dialect))
    payment_id = int(_id(values, "prv_txn", dialect))
    if payment_id >= _INT64:
        raise Nonsense(Reason.PAYMENT_NOT_FOUND, "prv_txn is a number we never give")
    return Cancel(payment_id=payment_id, extras=_extras(values, dialect))


def _status(values: Mapping[str, bytes], contract: Contract, dialect: Dialect, now: datetime) -> Status:
    del contract, now
    return Status(key=_key(values, dialect), extras=_extras(values, dialect))


def _balance(values: Mapping[str, bytes], contract: Contract, dialect: Dialect, now: datetime) -> Balance:
    del now
    return Balance(_account(values, contract, dialect) if values.get("account") else None, _extras(values, dialect))


def _registry(values: Mapping[str, bytes], contract: Contract, dialect: Dialect, now: datetime) -> Registry:
    """The day of ``date=YYYYMMDD`` from midnight to midnight in the contract's zone, 23 or 25 hours where it is so."""
    del now
    text = wire.required(values, "date", Reason.BAD_DATE, dialect.charset)
    if _DATE.fullmatch(text) is None:
        raise Nonsense(Reason.BAD_DATE, "date is not YYYYMMDD")
    midnight = f"{text[:4]}-{text[4:6]}-{text[6:]}T00:00:00"
    start = wire.local_time(midnight, contract.time_zone)
    next_day = datetime.fromisoformat(midnight) + timedelta(days=1)
    end = next_day.replace(tzinfo=wire.zone_of(contract.time_zone)).astimezone(start.tzinfo)
    return Registry(start, end, _extras(values, dialect))


_READ: Final[Mapping[Op, Callable[[Mapping[str, bytes], Contract, Dialect, datetime], Request]]] = {
    Op.CHECK: _check,
    Op.PAY: _pay,
    Op.CANCEL: _cancel,
    Op.STATUS: _status,
    Op.BALANCE: _balance,
    Op.REGISTRY: _registry,
}


def _id(values: Mapping[str, bytes], name: str, dialect: Dialect) -> str:
    """An id of up to 20 digits, kept as text: a number loses digits after the fifteenth in many languages."""
    text = wire.required(values, name, Reason.BAD_EXT_ID, dialect.charset)
    if not wire.is_digits(text, 1, MAX_ID_DIGITS):
        raise Nonsense(Reason.BAD_EXT_ID, f"{name} is not 1 to {MAX_ID_DIGITS} digits")
    return text


def _key(values: Mapping[str, bytes], dialect: Dialect) -> str:
    """A txn_id that names a payment. Zero is what look-ups send and would be one key for all of them."""
    key = _id(values, "txn_id", dialect)
    if not key.strip("0"):
        raise Nonsense(Reason.BAD_EXT_ID, "txn_id is zero")
    if dialect.refuse_padded_id and key.startswith("0"):
        raise Nonsense(Reason.BAD_EXT_ID, "txn_id has zeros in front")
    return key


def _account(values: Mapping[str, bytes], contract: Contract, dialect: Dialect) -> str:
    return wire.account_of(wire.required(values, "account", Reason.BAD_ACCOUNT_FORMAT, dialect.charset), contract)


def _service(values: Mapping[str, bytes], dialect: Dialect) -> str:
    """prv_id, or nothing. Whether the contract has the service is for the gateway to say, for new payments only."""
    if not values.get("prv_id"):
        return ""
    service = wire.required(values, "prv_id", Reason.BAD_SERVICE, dialect.charset)
    if not wire.is_digits(service, 1, MAX_SERVICE_DIGITS):
        raise Nonsense(Reason.BAD_SERVICE, f"prv_id is not 1 to {MAX_SERVICE_DIGITS} digits")
    return service


def _sum(values: Mapping[str, bytes], dialect: Dialect) -> Minor:
    text = wire.required(values, "sum", Reason.BAD_AMOUNT, dialect.charset)
    amount = wire.amount_of(text.removeprefix("-"), MAX_SUM_CHARS)
    if text.startswith("-"):
        raise Nonsense(Reason.AMOUNT_TOO_SMALL, "the sum is below zero")
    return amount


def _txn_date(values: Mapping[str, bytes], contract: Contract, dialect: Dialect) -> datetime:
    text = wire.required(values, "txn_date", Reason.BAD_DATE, dialect.charset)
    if _DATE_TIME.fullmatch(text) is None:
        raise Nonsense(Reason.BAD_DATE, "txn_date is not YYYYMMDDHHMMSS")
    return wire.local_time(f"{text[:8]}T{text[8:]}", contract.time_zone)


def _extras(values: Mapping[str, bytes], dialect: Dialect) -> dict[str, str]:
    """What is kept of further parameters; one that cannot be read as text is refused, an empty one ignored.

    Terminals send card numbers in free fields, so those are masked before anybody keeps them.
    """
    return {
        name: mask_cards(wire.required(values, name, Reason.BAD_EXTRAS, dialect.charset))
        for name in (*KEPT, *dialect.extras)
        if values.get(name)
    }


# ---- encode ----

_DECLARATION: Final = '<?xml version="1.0" encoding="UTF-8"?>\n'
_CHALLENGE: Final = (("WWW-Authenticate", 'Basic realm="payments", charset="UTF-8"'),)


def encode(result: Result, contract: Contract, keys: Keys) -> Reply:
    """The reply; nothing is signed here. The XML declaration is the very first byte."""
    del keys
    dialect: Dialect = contract.dialect
    http = _HTTP_STATUS.get(result.reason)
    if http is not None:
        headers = _CHALLENGE if http == 401 else ()
        body = b"401 Unauthorized\n" if http == 401 else b"403 Forbidden\n"
        return Reply(body, "text/plain; charset=utf-8", http, headers)
    text = f"{_DECLARATION}<response>{_particulars(result, contract, dialect)}</response>"
    return Reply(text.encode("utf-8"), f"{dialect.reply_content_type}; charset=utf-8")


def _particulars(result: Result, contract: Contract, dialect: Dialect) -> str:
    code = result_code(result.reason, result.op, dialect)
    ending = f"<result>{code}</result><comment>{wire.xml_text(_comment(result, dialect))}</comment>"
    if result.op is Op.REGISTRY and code == 0:
        return f"<verify>{_registry_lines(result, contract)}</verify><result>0</result>"
    if result.op is Op.BALANCE:
        balance = "" if result.amount is None else f"<balance>{format_minor(result.amount)}</balance>"
        return balance + ending
    parts = ""
    by_our_number = result.op is Op.CANCEL and dialect.cancel == "prv_txn"  # knows neither id nor sum
    if not by_our_number:
        parts += f"<{dialect.id_element}>{wire.xml_text(result.key or '')}</{dialect.id_element}>"
    if result.cancel_key is not None:
        parts += f"<cancel_txn_id>{wire.xml_text(result.cancel_key)}</cancel_txn_id>"
    if result.payment_id is not None and (code == 0 or result.op is Op.CANCEL) and result.op is not Op.CHECK:
        parts += f"<prv_txn>{result.payment_id}</prv_txn>"
    if result.amount is not None and code == 0 and result.op is not Op.CHECK and not by_our_number:
        parts += f"<sum>{format_minor(result.amount)}</sum>"
    return parts + ending + _fields(result, dialect, code)


def _registry_lines(result: Result, contract: Contract) -> str:
    return "".join([_registry_line(line, contract) for line in result.registry])


def _registry_line(line: RegistryLine, contract: Contract) -> str:
    at = wire.wall_clock(line.time, contract.time_zone)
    date = f"{at[8:10]}.{at[5:7]}.{at[:4]} {at[11:]}"
    return (
        f'<payment txn_id="{wire.xml_text(line.key)}" prv_txn="{line.payment_id}" '
        f'account="{wire.xml_text(line.account)}" amount="{format_minor(line.amount)}" date="{date}"/>'
    )


def _fields(result: Result, dialect: Dialect, code: int) -> str:
    """What the contract shows to the payer, as ``field1..N``; only with success."""
    if code != 0 or not result.display:
        return ""
    kind = f' type="{dialect.field_type}"' if dialect.field_type else ""
    shown = [
        f'<field{number} name="{wire.xml_text(name)}"{kind}>{wire.xml_text(value)}</field{number}>'
        for number, (name, value) in enumerate(result.display, 1)
    ]
    return f"<fields>{''.join(shown)}</fields>"


def code_of(result: Result, contract: Contract) -> str:
    """The code that ``encode`` puts into the reply; 401 and 403 are HTTP's."""
    return str(result_code(result.reason, result.op, contract.dialect))


# ---- scrub ----

_NOTHING: Final = re.compile("(?!)()()")


def scrub(raw: RawRequest, contract: Contract, most: int = wire.MAX_SCRUBBED) -> str:
    """The request for a person to read, without its Authorization."""
    dialect: Dialect = contract.dialect
    return wire.scrubbed_request(raw, dialect.charset, most)


def scrub_reply(reply: Reply) -> str:
    """The reply for a person to read; it holds no secret."""
    return wire.scrubbed_reply(reply.body, "utf-8", _NOTHING)


# ---- settings ----

_ELEMENT: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,31}", re.ASCII)
_FIELD_TYPE: Final = re.compile(r"[A-Za-z0-9_-]{0,32}", re.ASCII)
_MEDIA_TYPE: Final = re.compile(r"[a-z]+/[a-z0-9.+-]+", re.ASCII)
_TAKEN: Final = frozenset(
    {"prv_txn", "sum", "result", "comment", "fields", "balance", "verify", "cancel_txn_id", "response"}
)
_READ_ALREADY: Final = frozenset(
    {"command", "txn_id", "account", "sum", "txn_date", "prv_id", "prv_txn", "cancel_txn_id", "date", *KEPT}
)
#: Answering one of these where a final refusal is meant would make the partner credit, or repeat for ever.
_NOT_FINAL: Final = frozenset({0, 1, 90})


def check_settings(contract: Contract) -> None:
    """Refuse a contract this dialect cannot keep.

    Raises:
        ValueError: names the field and what is allowed.
    """
    dialect: Dialect = contract.dialect
    _check_names(dialect)
    if not 1 <= dialect.conflict_code <= 999 or dialect.conflict_code in _NOT_FINAL:
        raise ValueError("dialect.conflict_code must be a final code from 2 to 999, but not 90")
    if dialect.cancel_unknown_code not in (0, 79, 251, 300):
        raise ValueError("dialect.cancel_unknown_code must be 0, 79, 251 or 300")
    if (
        dialect.cancel == "cancel_txn_id"
        and dialect.cancel_unknown_code == 0
        and not (contract.cancel_tombstone and contract.cancel_allowed)
    ):
        raise ValueError(
            "dialect.cancel_unknown_code must not be 0 with cancel = cancel_txn_id unless cancel_tombstone is on: "
            "a pay that comes after such a cancel would be credited"
        )
    for service in contract.services:
        if not wire.is_digits(service, 1, MAX_SERVICE_DIGITS):
            raise ValueError(f"services must be numbers of up to {MAX_SERVICE_DIGITS} digits, as prv_id is")


def _check_names(dialect: Dialect) -> None:
    if _ELEMENT.fullmatch(dialect.id_element) is None or dialect.id_element in _TAKEN:
        raise ValueError("dialect.id_element must be an element name that the reply does not use otherwise")
    if _FIELD_TYPE.fullmatch(dialect.field_type) is None:
        raise ValueError("dialect.field_type must be letters, digits, - or _")
    if _MEDIA_TYPE.fullmatch(dialect.reply_content_type) is None:
        raise ValueError("dialect.reply_content_type must be a media type such as text/xml")
    for name in dialect.extras:
        if _ELEMENT.fullmatch(name) is None or name in _READ_ALREADY:
            raise ValueError("dialect.extras must be names of parameters that the protocol does not read otherwise")


# ---- the client side: what the aggregator sends and reads ----


def basic_authorization(user: str, password: str) -> str:
    """The Authorization header's value. Example: ``basic_authorization("osmp", "secret")``."""
    return "Basic " + binascii.b2a_base64(f"{user}:{password}".encode(), newline=False).decode("ascii")


def basic_key(user: str, password: str) -> str:
    """What ``Keys.basic`` and the table of keys hold for this user and password."""
    return sha256(f"{user}:{password}".encode()).hexdigest()


def build(request: Request, contract: Contract, keys: Keys) -> bytes:
    """The query the aggregator would send for ``request``; access goes by header (`basic_authorization`).

    Raises:
        ValueError: an operation or a request this contract's dialect has no words for.
    """
    del keys
    dialect: Dialect = contract.dialect
    return wire.form([*_words(request, contract, dialect), *request.extras.items()], dialect.charset)


def _words(request: Request, contract: Contract, dialect: Dialect) -> list[tuple[str, str]]:
    zone = contract.time_zone
    match request:
        case Check():
            amount = [] if request.amount is None and dialect.optional_sum_in_check else [_sum_word(request.amount)]
            return [("command", "check"), ("txn_id", request.key or "0"), *_payee(request), *amount]
        case Pay():
            if request.partner_time is None:
                raise ValueError("an OSMP payment has a date")
            date = re.sub("[^0-9]", "", wire.wall_clock(request.partner_time, zone))
            key = [("command", "pay"), ("txn_id", request.key), ("txn_date", date)]
            return [*key, *_payee(request), _sum_word(request.amount)]
        case Cancel(key=None, payment_id=int() as payment_id) if dialect.cancel == "prv_txn":
            return [("command", "cancel"), ("prv_txn", str(payment_id))]
        case Cancel(key=str() as txn, cancel_key=str() as cancel_txn) if dialect.cancel == "cancel_txn_id":
            return [("command", "cancel"), ("txn_id", txn), ("cancel_txn_id", cancel_txn), _sum_word(request.amount)]
        case Status(key=str() as txn) if dialect.status == "txn_id":
            return [("command", "status"), ("txn_id", txn)]
        case Balance() if dialect.balance or dialect.status == "balance":
            account = [] if request.account is None else [("account", request.account)]
            return [("command", "balance" if dialect.balance else "status"), *account]
        case Registry() if dialect.verify:
            return [("command", "verify"), ("date", wire.wall_clock(request.start, zone)[:10].replace("-", ""))]
    raise ValueError(f"this contract has no words for this {type(request).__name__}")


def _sum_word(amount: Minor | None) -> tuple[str, str]:
    return ("sum", format_minor(amount or 0))


def _payee(request: Check | Pay) -> list[tuple[str, str]]:
    service = [("prv_id", request.service)] if request.service else []
    return [("account", request.account), *service]


def parse_reply(body: bytes) -> ParsedReply:
    """Read a provider's reply by element names, in any order.

    Raises:
        ValueError: not a reply of this protocol.
    """
    root = wire.parse_xml(body)
    fields = wire.first_values(root)
    prv_txn = fields.get("prv_txn", "")
    amount = fields.get("sum") or fields.get("balance")
    return ParsedReply(
        code=wire.as_reply_code(fields.get("result")),
        payment_id=int(prv_txn) if wire.is_digits(prv_txn, 1, MAX_ID_DIGITS) else None,
        amount=_signed_sum(amount) if amount else None,
        message=fields.get("comment", ""),
        fields=fields,
    )


def _signed_sum(text: str) -> Minor:
    """A sum of a reply: a balance may be below zero."""
    amount = parse_minor(text.removeprefix("-"))
    return Minor(-amount) if text.startswith("-") else amount
