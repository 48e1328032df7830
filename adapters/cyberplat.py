"""CyberPlat's provider protocol: ``action=check|payment|status|cancel``, XML in windows-1251, RSA both ways.

Sources: open implementations of a provider's side, which quote CyberPlat's table of codes (ABillS' Paysys modules,
``lfuuu/stattest``). No document for providers was found in public; where implementations differ there is a setting.

Rules. The signature covers the raw, still percent-encoded bytes before the last ``&sign=`` and is looked at first.
Then action (1), number (2), type (-2), additional (-1), amount (3), receipt (4), date (5). A missing parameter
is answered with the code of its kind. Codes -4 to 9 leave here and no others. Errors are signed exactly like successes,
over the bytes that are sent. HTTP status is always 200.

Long because a partner's protocol is one file, and every one has the same order: settings, codes, decode, encode, scrub,
the client side. It is read once, from the request to the reply; the next partner's is written by comparing file with
file.

Does not know: balances, payments, limits of the contract (amount bounds are the gateway's, who knows repeats).
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA1, SHA256

from adapters import wire
from adapters.cards import mask_cards
from adapters.messages import (
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
    Reply,
    Request,
    Result,
    Status,
)
from adapters.wire import Nonsense, setting
from ratingcore.money import format_minor

NAME: Final = "cyberplat"


@dataclass(frozen=True, slots=True)
class Dialect:
    """What differs between partners that speak this protocol: forms of a request, digests, what is left open."""

    digest: Literal["sha1", "sha256"] = setting("sha1", "digest of the signatures, both ways")
    require_signature: bool = setting(True, "false takes unsigned requests: for a test bench only, never for money")
    optional_type: bool = setting(False, "type may be absent from check and payment")
    optional_amount_in_check: bool = setting(False, "amount may be absent from check")
    receipt_in_check: bool = setting(False, "check may carry receipt; it is echoed nowhere and stored nowhere")
    comma_decimal: bool = setting(False, "amount may be written with a comma")
    cancel_without_mes: bool = setting(False, "cancel may come without mes")
    receipt_min_digits: int = setting(1, "fewest digits of receipt, 1 to 15; one known provider demands 3")
    additional_pattern: str = setting(".{1,250}", "full-match regular expression (RE2) of additional; else code -1")
    check_authcode: str = setting("", "digits sent as authcode in a successful check; empty sends none")
    add_element: bool = setting(False, "send what the contract displays to the payer as an element add, after date")
    in_work_code: Literal[-3, 8] = setting(-3, "answer to a payment that is still in work")
    reply_charset: Literal["windows-1251", "utf-8"] = setting("windows-1251", "charset of replies")
    reply_content_type: str = setting("text/xml", "media type of replies, without charset")


MAX_NUMBER: Final = 30
MAX_AMOUNT_CHARS: Final = 10
MAX_RECEIPT_DIGITS: Final = 15
MAX_TYPE_DIGITS: Final = 9
MAX_MES_DIGITS: Final = 3
MAX_AUTHCODE_DIGITS: Final = 32
MAX_ADD: Final = 250
#: Hex digits of a signature by a key of 8192 bits.
MAX_SIGN_CHARS: Final = 2048

CHARSET: Final = "windows-1251"

# ---- codes (CyberPlat's table; a reason it has no code for takes the nearest in meaning and finality) ----

_CODE: Final[Mapping[Reason, int]] = {
    Reason.OK: 0,
    Reason.DUPLICATE_OK: 0,
    Reason.IN_PROGRESS: -3,
    Reason.TEMPORARY: -3,
    Reason.BAD_REQUEST: 1,
    Reason.UNKNOWN_VERB: 1,
    Reason.BAD_SIGNATURE: -4,
    Reason.BAD_SOURCE: -4,
    Reason.BAD_SERVICE: -2,
    Reason.BAD_ACCOUNT_FORMAT: 2,
    Reason.ACCOUNT_NOT_FOUND: 2,
    Reason.ACCOUNT_INACTIVE: 2,
    Reason.FORBIDDEN: 2,
    Reason.BAD_AMOUNT: 3,
    Reason.AMOUNT_TOO_SMALL: 3,
    Reason.AMOUNT_TOO_LARGE: 3,
    Reason.BAD_EXT_ID: 4,
    Reason.BAD_DATE: 5,
    Reason.BAD_EXTRAS: -1,
    Reason.CONFLICT: 4,
    Reason.PAYMENT_NOT_FOUND: 4,
    Reason.ALREADY_CANCELLED: 7,
    Reason.CANCEL_IMPOSSIBLE: 9,
    # The table has no "other final error". The payment is refused for good, so the answer must be final too.
    Reason.OTHER: 2,
}

# A payment refused for one of these was never credited: status says 6 (it may be sent again), cancel says 4.
# BAD_EXTRAS and BAD_EXT_ID are not here: they are faults of the question itself, and 6 would be a false answer.
_REFUSALS: Final = frozenset(
    {
        Reason.BAD_SERVICE,
        Reason.BAD_ACCOUNT_FORMAT,
        Reason.ACCOUNT_NOT_FOUND,
        Reason.ACCOUNT_INACTIVE,
        Reason.FORBIDDEN,
        Reason.BAD_AMOUNT,
        Reason.AMOUNT_TOO_SMALL,
        Reason.AMOUNT_TOO_LARGE,
        Reason.BAD_DATE,
        Reason.PAYMENT_NOT_FOUND,
        Reason.OTHER,
    }
)

_CODE_BY_OP: Final[Mapping[tuple[Reason, Op | None], int]] = {
    **{(reason, Op.STATUS): 6 for reason in _REFUSALS},
    **{(reason, Op.CANCEL): 4 for reason in _REFUSALS},
    (Reason.IN_PROGRESS, Op.STATUS): 8,
    # Undecided money is not taken back; 9 leaves the payment standing, as it does.
    (Reason.IN_PROGRESS, Op.CANCEL): 9,
}


def result_code(reason: Reason, op: Op | None, dialect: Dialect) -> int:
    """The protocol's code; total over every reason and operation."""
    if reason is Reason.IN_PROGRESS and op is Op.PAY:
        return dialect.in_work_code
    return _CODE_BY_OP.get((reason, op), _CODE[reason])


_MESSAGE: Final[Mapping[Reason, str]] = {
    Reason.OK: "Успешно",
    Reason.DUPLICATE_OK: "Успешно",
    Reason.IN_PROGRESS: "Платеж в обработке, повторите запрос",
    Reason.TEMPORARY: "Временная ошибка, повторите запрос позже",
    Reason.BAD_REQUEST: "Неверный запрос",
    Reason.UNKNOWN_VERB: "Неизвестный тип запроса",
    Reason.BAD_SIGNATURE: "Ошибка проверки подписи",
    Reason.BAD_SOURCE: "Адрес отправителя не разрешен",
    Reason.BAD_SERVICE: "Неверный тип платежа",
    Reason.BAD_ACCOUNT_FORMAT: "Неверный формат номера абонента",
    Reason.ACCOUNT_NOT_FOUND: "Абонент не найден",
    Reason.ACCOUNT_INACTIVE: "Абонент отключен",
    Reason.FORBIDDEN: "Прием платежей запрещен",
    Reason.BAD_AMOUNT: "Неверная сумма платежа",
    Reason.AMOUNT_TOO_SMALL: "Сумма платежа слишком мала",
    Reason.AMOUNT_TOO_LARGE: "Сумма платежа слишком велика",
    Reason.BAD_EXT_ID: "Неверное значение номера платежа",
    Reason.BAD_DATE: "Неверное значение даты",
    Reason.BAD_EXTRAS: "Неверный формат дополнительного параметра",
    Reason.CONFLICT: "Платеж с таким номером уже принят с другими реквизитами",
    Reason.PAYMENT_NOT_FOUND: "Платеж не найден",
    Reason.ALREADY_CANCELLED: "Платеж отменен",
    Reason.CANCEL_IMPOSSIBLE: "Платеж не может быть отменен",
    Reason.OTHER: "Платеж отклонен",
}

_SUCCESS_MESSAGE: Final[Mapping[Op | None, str]] = {
    Op.CHECK: "Абонент найден",
    Op.PAY: "Платеж принят",
    Op.STATUS: "Платеж найден",
    Op.CANCEL: "Платеж отменен",
}


def _message(result: Result) -> str:
    if result.comment is not None:
        return result.comment
    if result.reason in (Reason.OK, Reason.DUPLICATE_OK):
        return _SUCCESS_MESSAGE.get(result.op, _MESSAGE[result.reason])
    return _MESSAGE[result.reason]


# ---- decode ----

_OPS: Final[Mapping[str, Op]] = {
    "check": Op.CHECK,
    "payment": Op.PAY,
    "status": Op.STATUS,
    "cancel": Op.CANCEL,
}

_PARAMETERS: Final[Mapping[Op, frozenset[str]]] = {
    Op.CHECK: frozenset({"action", "number", "type", "amount", "additional"}),
    Op.PAY: frozenset({"action", "number", "type", "amount", "receipt", "date", "additional"}),
    Op.STATUS: frozenset({"action", "receipt", "additional"}),
    Op.CANCEL: frozenset({"action", "receipt", "mes", "additional"}),
}

_HEX: Final = re.compile(rb"(?:[0-9A-Fa-f]{2})+")
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}", re.ASCII)


def decode(raw: RawRequest, contract: Contract, keys: Keys, now: datetime) -> Request | DecodeError:
    """One GET or POST to a Check, Pay, Status or Cancel, or to the DecodeError that says what is wrong with it."""
    dialect: Dialect = contract.dialect
    op: Op | None = None
    values: dict[str, bytes] = {}
    is_proven = False
    try:
        message = _authentic(wire.form_bytes(raw, post=True), dialect, keys)
        is_proven = bool(dialect.require_signature or contract.sources)
        values = wire.split_form(message)
        op = _op(values)
        _refuse_aliens(values, op, dialect)
        return _READ[op](values, contract, dialect, now)
    except Nonsense as nonsense:
        key = wire.peeked(values, "receipt", CHARSET)
        return nonsense.told(op, key, wire.peeked(values, "number", CHARSET), is_proven=is_proven)


def _authentic(data: bytes, dialect: Dialect, keys: Keys) -> bytes:
    """The signed part of the raw bytes, once one of the partner's keys has vouched for it."""
    message, separator, sign = data.rpartition(b"&sign=")
    if not dialect.require_signature:
        return message if separator else data
    if not separator or len(sign) > MAX_SIGN_CHARS or _HEX.fullmatch(sign) is None:
        raise Nonsense(Reason.BAD_SIGNATURE, "no sign at the end, or it is not hexadecimal")
    if not keys.verify:
        raise Nonsense(Reason.BAD_SIGNATURE, "no public key of the partner is valid now")
    signature = bytes.fromhex(sign.decode("ascii"))
    if not any(_verified(key, signature, message, dialect) for key in keys.verify):
        raise Nonsense(Reason.BAD_SIGNATURE, "the signature does not fit any key of the partner that is valid now")
    return message


_PADDING: Final = PKCS1v15()
_DIGEST: Final[Mapping[str, SHA1 | SHA256]] = {"sha1": SHA1(), "sha256": SHA256()}


def _verified(key: Any, signature: bytes, message: bytes, dialect: Dialect) -> bool:
    try:
        key.verify(signature, message, _PADDING, _DIGEST[dialect.digest])
    except InvalidSignature:
        return False
    return True


def _op(values: Mapping[str, bytes]) -> Op:
    action = wire.required(values, "action", Reason.UNKNOWN_VERB, CHARSET)
    op = _OPS.get(action)
    if op is None:
        raise Nonsense(Reason.UNKNOWN_VERB, "action is none of check, payment, status, cancel")
    return op


def _refuse_aliens(values: Mapping[str, bytes], op: Op, dialect: Dialect) -> None:
    allowed = _PARAMETERS[op]
    for name in values:
        if name not in allowed and not (name == "receipt" and op is Op.CHECK and dialect.receipt_in_check):
            raise Nonsense(Reason.BAD_REQUEST, f"a parameter that {op} does not have")


def _check(values: Mapping[str, bytes], contract: Contract, dialect: Dialect, now: datetime) -> Check:
    del now  # a check has no date
    account = _number(values, contract)
    service = _type(values, dialect)
    wire.hold_to_contract(account, service, contract)
    extras = _additional(values, dialect)
    amount = None
    if "amount" in values or not dialect.optional_amount_in_check:
        amount = _amount(values, dialect)
    key = _receipt(values, dialect) if "receipt" in values else None
    return Check(account, service, amount, key, extras)


def _pay(values: Mapping[str, bytes], contract: Contract, dialect: Dialect, now: datetime) -> Pay:
    del now  # the window is for new payments only, so the gateway looks at it
    account = _number(values, contract)
    service = _type(values, dialect)
    extras = _additional(values, dialect)
    amount = _amount(values, dialect)
    key = _receipt(values, dialect)
    partner_time = _date(values, contract)
    return Pay(key, account, amount, service, partner_time, extras)


def _status(values: Mapping[str, bytes], contract: Contract, dialect: Dialect, now: datetime) -> Status:
    del contract, now
    extras = _additional(values, dialect)
    return Status(key=_receipt(values, dialect), extras=extras)


def _cancel(values: Mapping[str, bytes], contract: Contract, dialect: Dialect, now: datetime) -> Cancel:
    del contract, now
    extras = _additional(values, dialect)
    key = _receipt(values, dialect)
    if "mes" in values or not dialect.cancel_without_mes:
        mes = wire.required(values, "mes", Reason.BAD_REQUEST, CHARSET)
        if not wire.is_digits(mes, 1, MAX_MES_DIGITS):
            raise Nonsense(Reason.BAD_REQUEST, f"mes is not 1 to {MAX_MES_DIGITS} digits")
        extras = {**extras, "mes": mes}
    return Cancel(key=key, extras=extras)


_READ: Final[Mapping[Op, Callable[[Mapping[str, bytes], Contract, Dialect, datetime], Request]]] = {
    Op.CHECK: _check,
    Op.PAY: _pay,
    Op.STATUS: _status,
    Op.CANCEL: _cancel,
}


def _number(values: Mapping[str, bytes], contract: Contract) -> str:
    number = wire.required(values, "number", Reason.BAD_ACCOUNT_FORMAT, CHARSET)
    if len(number) > MAX_NUMBER:
        raise Nonsense(Reason.BAD_ACCOUNT_FORMAT, f"number is longer than {MAX_NUMBER} characters")
    return wire.account_of(number, contract)


def _type(values: Mapping[str, bytes], dialect: Dialect) -> str:
    if dialect.optional_type and "type" not in values:
        return ""
    service = wire.required(values, "type", Reason.BAD_SERVICE, CHARSET)
    if not wire.is_digits(service, 1, MAX_TYPE_DIGITS):
        raise Nonsense(Reason.BAD_SERVICE, f"type is not 1 to {MAX_TYPE_DIGITS} digits")
    return service


def _additional(values: Mapping[str, bytes], dialect: Dialect) -> dict[str, str]:
    if not values.get("additional"):
        return {}
    text = wire.required(values, "additional", Reason.BAD_EXTRAS, CHARSET)
    if not wire.fits(dialect.additional_pattern, text):
        raise Nonsense(Reason.BAD_EXTRAS, "additional does not match the contract's pattern")
    return {"additional": mask_cards(text)}


def _amount(values: Mapping[str, bytes], dialect: Dialect) -> Any:
    text = wire.required(values, "amount", Reason.BAD_AMOUNT, CHARSET)
    amount = wire.amount_of(text, MAX_AMOUNT_CHARS, comma=dialect.comma_decimal)
    if amount == 0:
        raise Nonsense(Reason.BAD_AMOUNT, "the sum is zero")
    return amount


def _receipt(values: Mapping[str, bytes], dialect: Dialect) -> str:
    receipt = wire.required(values, "receipt", Reason.BAD_EXT_ID, CHARSET)
    if not wire.is_digits(receipt, dialect.receipt_min_digits, MAX_RECEIPT_DIGITS):
        raise Nonsense(Reason.BAD_EXT_ID, f"receipt is not {dialect.receipt_min_digits} to {MAX_RECEIPT_DIGITS} digits")
    return receipt


def _date(values: Mapping[str, bytes], contract: Contract) -> datetime:
    text = wire.required(values, "date", Reason.BAD_DATE, CHARSET)
    if _DATE.fullmatch(text) is None:
        raise Nonsense(Reason.BAD_DATE, "date is not YYYY-MM-DDThh:mm:ss")
    return wire.local_time(text, contract.time_zone)


# ---- encode ----

_SHOWN: Final[Mapping[str, str]] = {"name": "Абонент", "balance": "Баланс"}


def encode(result: Result, contract: Contract, keys: Keys) -> Reply:
    """The reply, signed where ``keys.sign`` is there, always HTTP 200."""
    dialect: Dialect = contract.dialect
    charset = dialect.reply_charset
    text = (
        f'<?xml version="1.0" encoding="{charset}"?><response>'
        f"<code>{result_code(result.reason, result.op, dialect)}</code>{_particulars(result, contract, dialect)}"
        f"<message>{wire.xml_text(_message(result))}</message></response>"
    )
    body = text.encode(charset, "xmlcharrefreplace")
    if keys.sign is not None:
        body = signed_reply(body, keys.sign, dialect.digest)
    return Reply(body, f"{dialect.reply_content_type}; charset={charset}")


def _particulars(result: Result, contract: Contract, dialect: Dialect) -> str:
    """authcode, date and add, where a reply has them: with success, and authcode with "was cancelled" too."""
    done = result.reason in (Reason.OK, Reason.DUPLICATE_OK)
    parts = ""
    if result.op is Op.CHECK:
        if done and dialect.check_authcode:
            parts += f"<authcode>{dialect.check_authcode}</authcode>"
    elif result.payment_id is not None and (done or result.reason is Reason.ALREADY_CANCELLED):
        parts += f"<authcode>{result.payment_id}</authcode>"
    if done and result.registered_at is not None and result.op in (Op.PAY, Op.STATUS):
        parts += f"<date>{wire.wall_clock(result.registered_at, contract.time_zone)}</date>"
    if done and dialect.add_element and result.display:
        shown = "; ".join([f"{_SHOWN.get(name, name)}: {value}" for name, value in result.display])
        parts += f"<add>{wire.xml_text(shown[:MAX_ADD])}</add>"
    return parts


_END: Final = b"</response>"


def signed_reply(body: bytes, private_key: Any, digest: str) -> bytes:
    """``body`` with ``<sign>`` put directly before ``</response>``, nothing else changed."""
    sign: str = private_key.sign(body, _PADDING, _DIGEST[digest]).hex()
    return b"%s<sign>%s</sign>%s" % (body[: -len(_END)], sign.encode("ascii"), _END)


def code_of(result: Result, contract: Contract) -> str:
    """The code that ``encode`` puts into the reply."""
    return str(result_code(result.reason, result.op, contract.dialect))


# ---- scrub ----

_SIGN_IN_REPLY: Final = re.compile("(<sign>)[^<]*(</sign>|<|$)")


def scrub(raw: RawRequest, contract: Contract, most: int = wire.MAX_SCRUBBED) -> str:
    """The request for a person to read, without its signature."""
    del contract
    return wire.scrubbed_request(raw, CHARSET, most)


def scrub_reply(reply: Reply) -> str:
    """The reply for a person to read, without its signature."""
    charset = "utf-8" if reply.content_type.endswith("utf-8") else CHARSET
    return wire.scrubbed_reply(reply.body, charset, _SIGN_IN_REPLY)


# ---- settings ----

_MEDIA_TYPE: Final = re.compile(r"[a-z]+/[a-z0-9.+-]+", re.ASCII)


def check_settings(contract: Contract) -> None:
    """Refuse a contract this dialect cannot keep.

    Raises:
        ValueError: names the field and what is allowed.
    """
    dialect: Dialect = contract.dialect
    if not 1 <= dialect.receipt_min_digits <= MAX_RECEIPT_DIGITS:
        raise ValueError(f"dialect.receipt_min_digits must be 1 to {MAX_RECEIPT_DIGITS}")
    if dialect.check_authcode and not wire.is_digits(dialect.check_authcode, 1, MAX_AUTHCODE_DIGITS):
        raise ValueError(f"dialect.check_authcode must be empty or up to {MAX_AUTHCODE_DIGITS} digits")
    if _MEDIA_TYPE.fullmatch(dialect.reply_content_type) is None:
        raise ValueError("dialect.reply_content_type must be a media type such as text/xml")
    wire.check_pattern("dialect.additional_pattern", dialect.additional_pattern)
    for service in contract.services:
        if not wire.is_digits(service, 1, MAX_TYPE_DIGITS):
            raise ValueError(f"services must be numbers of up to {MAX_TYPE_DIGITS} digits, as CyberPlat's type is")


# ---- the client side: what CyberPlat sends and reads ----


def build(request: Request, contract: Contract, keys: Keys) -> bytes:
    """The query CyberPlat would send for ``request``, signed with ``keys.sign`` where it is there.

    Raises:
        ValueError: an operation or a request this dialect has no words for.
    """
    query = wire.form(_words(request, contract), CHARSET)
    return query if keys.sign is None else signed_query(query, keys.sign, contract.dialect.digest)


def signed_query(query: bytes, private_key: Any, digest: str) -> bytes:
    """The query with ``&sign=`` over its raw bytes."""
    sign: str = private_key.sign(query, _PADDING, _DIGEST[digest]).hex()
    return b"%s&sign=%s" % (query, sign.encode("ascii"))


def _words(request: Request, contract: Contract) -> list[tuple[str, str]]:
    extras = list(request.extras.items())
    match request:
        case Check():
            amount = [] if request.amount is None else [("amount", format_minor(request.amount))]
            receipt = [] if request.key is None else [("receipt", request.key)]
            return [("action", "check"), *_payee(request), *amount, *receipt, *extras]
        case Pay():
            if request.partner_time is None:
                raise ValueError("a CyberPlat payment has a date")
            date = wire.wall_clock(request.partner_time, contract.time_zone)
            amount = [("amount", format_minor(request.amount))]
            return [("action", "payment"), *_payee(request), *amount, ("receipt", request.key), ("date", date), *extras]
        case Status(key=str() as key):
            return [("action", "status"), ("receipt", key), *extras]
        case Cancel(key=str() as key):
            return [("action", "cancel"), ("receipt", key), *extras]
    raise ValueError(f"CyberPlat has no words for this {type(request).__name__}")


def _payee(request: Check | Pay) -> list[tuple[str, str]]:
    service = [("type", request.service)] if request.service else []
    return [("number", request.account), *service]


_SIGN: Final = re.compile(rb"<sign>\s*([0-9A-Fa-f]*)\s*</sign>")


def parse_reply(body: bytes) -> ParsedReply:
    """Read a provider's reply by element names, in any order.

    Raises:
        ValueError: not a reply of this protocol.
    """
    fields = wire.first_values(wire.parse_xml(body))
    found = _SIGN.search(body)
    authcode = fields.get("authcode", "")
    return ParsedReply(
        code=wire.as_reply_code(fields.get("code")),
        payment_id=int(authcode) if wire.is_digits(authcode, 1, MAX_AUTHCODE_DIGITS) else None,
        date=fields.get("date") or None,
        message=fields.get("message", ""),
        fields=fields,
        signed=body if found is None else body[: found.start()] + body[found.end() :],
        sign=None if found is None else found[1].decode("ascii").lower(),
    )


def verify_reply(reply: ParsedReply, public_key: Any, digest: str) -> bool:
    """Did the owner of ``public_key`` sign exactly these bytes?"""
    if not reply.sign or len(reply.sign) % 2:
        return False
    try:
        public_key.verify(bytes.fromhex(reply.sign), reply.signed, _PADDING, _DIGEST[digest])
    except InvalidSignature:
        return False
    return True
