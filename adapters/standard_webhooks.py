"""Standard Webhooks 1.0.0: a request signed with a secret that both sides know, so that the receiver can believe it.

Rules. What is signed is ``id.timestamp.body``, with the body as it goes over the wire. The key of an HMAC-SHA256 is the
decoded secret, not its text. While a secret is replaced, both sign, and either convinces. A timestamp is whole seconds;
one further than TOLERANCE_S from the receiver's clock is refused, so that what was recorded cannot be sent again later.
Signatures are compared in constant time, before anything is read from the body.

Source: spec/standard-webhooks.md of github.com/standard-webhooks/standard-webhooks.

Does not know: HTTP, clocks, where secrets are kept, events.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable, Mapping
from typing import Final

#: The headers of a request.
ID: Final = "webhook-id"
TIMESTAMP: Final = "webhook-timestamp"
SIGNATURE: Final = "webhook-signature"

SECRET_PREFIX: Final = "whsec_"
SECRET_MIN_BYTES: Final = 24
SECRET_MAX_BYTES: Final = 64
#: As the reference library does; the text names no number.
TOLERANCE_S: Final = 300

_VERSION: Final = "v1"


class WebhookError(ValueError):
    """A request that does not convince, or a secret that is none; the sentence says why."""


def secret_text(key: bytes) -> str:
    """A key as both sides write it.

    Raises:
        WebhookError: it is not 24 to 64 bytes.

    >>> secret_text(bytes(range(32)))
    'whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8='
    """
    if not SECRET_MIN_BYTES <= len(key) <= SECRET_MAX_BYTES:
        raise WebhookError(f"a secret has {SECRET_MIN_BYTES} to {SECRET_MAX_BYTES} bytes, not {len(key)}")
    return SECRET_PREFIX + base64.b64encode(key).decode()


def secret_key(text: str) -> bytes:
    """The key of a secret as both sides write it.

    Raises:
        WebhookError: not ``whsec_`` and 24 to 64 bytes in base64.
    """
    if not text.startswith(SECRET_PREFIX):
        raise WebhookError(f"a secret begins with {SECRET_PREFIX}")
    try:
        key = base64.b64decode(text.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError) as error:
        raise WebhookError("a secret is base64 after its prefix") from error
    secret_text(key)
    return key


def signed_headers(message_id: str, timestamp: int, body: bytes, keys: Iterable[bytes]) -> dict[str, str]:
    """The headers of one attempt. timestamp: Unix seconds of this attempt. keys: the newest first.

    Raises:
        WebhookError: an id that would make the signed text ambiguous, or no key.
    """
    if not message_id or "." in message_id or not message_id.isascii() or not message_id.isprintable():
        raise WebhookError("an id is printable ASCII without a dot")
    signatures = " ".join(f"{_VERSION},{_signature(message_id, str(timestamp), body, key)}" for key in keys)
    if not signatures:
        raise WebhookError("there is no secret to sign with")
    return {ID: message_id, TIMESTAMP: str(timestamp), SIGNATURE: signatures}


def verify(headers: Mapping[str, str], body: bytes, keys: Iterable[bytes], now: int) -> str:
    """The id of a request that convinces: what a receiver does. headers: names in lower case.

    Raises:
        WebhookError: a header is missing or malformed, the time is off, or no signature of ours fits.
    """
    message_id, timestamp, signatures = (headers.get(name, "") for name in (ID, TIMESTAMP, SIGNATURE))
    if not message_id or not signatures:
        raise WebhookError("the request is not signed")
    if not (timestamp.isascii() and timestamp.isdecimal()):
        raise WebhookError("the timestamp is no whole number of seconds")
    if abs(now - int(timestamp)) > TOLERANCE_S:
        raise WebhookError("the timestamp is too far from now")
    given = [item.partition(",")[2] for item in signatures.split(" ") if item.startswith(f"{_VERSION},")]
    wanted = [_signature(message_id, timestamp, body, key) for key in keys]
    if not any(hmac.compare_digest(one.encode(), other.encode()) for one in given for other in wanted):
        raise WebhookError("no signature fits")
    return message_id


def _signature(message_id: str, timestamp: str, body: bytes, key: bytes) -> str:
    text = f"{message_id}.{timestamp}.".encode() + body
    return base64.b64encode(hmac.new(key, text, hashlib.sha256).digest()).decode()
