"""CloudEvents 1.0 in structured JSON: one envelope for whatever happened.

Rules. `id` and `source` together name an event for ever: a receiver knows a repeat by them. Attributes hold nothing
that should not be logged on the way. Extension names are lower-case letters and digits, 20 at most. The envelope is
written once and kept byte for byte; `time` is when it happened, RFC 3339, UTC.

Source: cloudevents/spec.md and formats/json-format.md of github.com/cloudevents/spec, 1.0.2.

Does not know: what happened, who is told, signatures (adapters.standard_webhooks).
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

CONTENT_TYPE: Final = "application/cloudevents+json; charset=UTF-8"
#: What every receiver takes; larger events are refused here, before anybody waits for them.
MAX_BYTES: Final = 64 * 1024

_EXTENSION: Final = re.compile("[a-z0-9]{1,20}")
_CORE: Final = frozenset(
    ("id", "source", "specversion", "type", "subject", "time", "datacontenttype", "dataschema", "data", "data_base64")
)


class CloudEventError(ValueError):
    """What is no event; the sentence says why."""


@dataclass(frozen=True, slots=True)
class CloudEvent:
    """An event with JSON data. type: begins with a reverse domain name. extensions: text, whole numbers, booleans."""

    id: str
    source: str
    type: str
    time: datetime
    data: Any
    subject: str = ""
    extensions: Mapping[str, str | int | bool] = field(default_factory=dict)


def encode_event(event: CloudEvent) -> bytes:
    """The envelope in UTF-8, the same bytes for the same event.

    Raises:
        CloudEventError: an attribute is empty or malformed, or the event is too large.
    """
    for name in ("id", "source", "type"):
        if not getattr(event, name) or not getattr(event, name).isprintable():
            raise CloudEventError(f"{name} must be printable text")
    if event.time.tzinfo is None:
        raise CloudEventError("the time has no zone")
    for name, value in event.extensions.items():
        if not _EXTENSION.fullmatch(name) or name in _CORE:
            raise CloudEventError(f"{name!r} is no name of an extension")
        if isinstance(value, int) and not isinstance(value, bool) and not -(1 << 31) <= value < 1 << 31:
            raise CloudEventError(f"{name}: a number has 32 bits")
    envelope: dict[str, Any] = {
        "specversion": "1.0",
        "id": event.id,
        "source": event.source,
        "type": event.type,
        **({"subject": event.subject} if event.subject else {}),
        "time": event.time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "datacontenttype": "application/json",
        **event.extensions,
        "data": event.data,
    }
    body = json.dumps(envelope, ensure_ascii=False, separators=(",", ":")).encode()
    if len(body) > MAX_BYTES:
        raise CloudEventError(f"the event has {len(body)} bytes, more than the {MAX_BYTES} that receivers take")
    return body


def decode_event(body: bytes) -> CloudEvent:
    """An envelope as a receiver reads it.

    Raises:
        CloudEventError: not a CloudEvent 1.0 with JSON data.
    """
    try:
        envelope = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise CloudEventError("the body is no JSON") from error
    if not isinstance(envelope, dict) or envelope.get("specversion") != "1.0":
        raise CloudEventError("specversion is not 1.0")
    for name in ("id", "source", "type"):
        if not isinstance(envelope.get(name), str) or not envelope[name]:
            raise CloudEventError(f"{name} is missing")
    if "data_base64" in envelope:
        raise CloudEventError("binary data is not taken here")
    subject, told = envelope.get("subject") or "", envelope.get("time")
    try:
        at = datetime.fromisoformat(told) if isinstance(told, str) else None
    except ValueError:
        at = None
    if not isinstance(subject, str) or at is None or at.tzinfo is None:
        raise CloudEventError("subject is no text, or time no instant")
    extensions = {name: value for name, value in envelope.items() if name not in _CORE and value is not None}
    return CloudEvent(
        envelope["id"], envelope["source"], envelope["type"], at, envelope.get("data"), subject, extensions
    )
