"""Webhook endpoints: who is told of which events, and what counts as their acknowledgement.

Rules. An endpoint's address is https, without a user in it; plain http only where settings allow it. Types are patterns
of event types: a type itself, or its beginning with ``*`` after a dot. A 2xx answer acknowledges, unless it is a page
for people, which a proxy or a login form in front of the receiver sends; a rule of the endpoint may ask for a content
type or a text in the answer, or take any answer. A secret is replaced by one beside it, and both sign for a while.

Does not know: rows (endpoint_store), HTTP (webhooks).
"""

import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal
from urllib.parse import urlsplit

from adapters.standard_webhooks import secret_key, secret_text
from billing.refusals import Refusal
from gateway.channels.outbound_http import HttpAnswer
from gateway.events.types import EVENT_TYPES

NAME: Final = re.compile("[a-z0-9][a-z0-9-]{0,31}")
#: Bytes of a new secret.
SECRET_BYTES: Final = 32
#: How long an old secret goes on signing after it was replaced, unless the person says otherwise.
ROTATION_HOURS: Final = 24
_PATTERN: Final = re.compile(r"\*|[a-z0-9_]+(\.[a-z0-9_]+)*(\.\*)?")
_PAGE: Final = re.compile(rb"\s*(<!--.*?-->\s*)*<(!doctype\s+html|html|head|body)\b", re.IGNORECASE | re.DOTALL)

Expects = Literal["no_page", "any"]


class EndpointError(Refusal):
    """A clear sentence on why an endpoint is not so; nothing was changed."""

    default_code = "endpoint_refused"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint as it is sent to. keys: decoded secrets, the newest first. is_enabled: it is told of new events."""

    name: str
    url: str
    types: tuple[str, ...]
    expects: Expects
    expected_type: str
    expected_text: str
    is_enabled: bool
    keys: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class EndpointRow:
    """An endpoint for people. held_why: why its queue is held, or "". secrets: how many sign now."""

    name: str
    url: str
    types: tuple[str, ...]
    expects: Expects
    expected_type: str
    expected_text: str
    is_enabled: bool
    held_why: str
    held_by: str
    created_by: str
    created_at: datetime
    secrets: int
    waiting: int
    manual: int
    failing_since: datetime | None


def wants(types: Iterable[str], event_type: str) -> bool:
    """Whether one of an endpoint's patterns names the type.

    >>> wants(["kopeck.payment.*"], "kopeck.payment.posted.v1"), wants(["kopeck.payment"], "kopeck.payment.posted.v1")
    (True, False)
    """
    return any(
        pattern in ("*", event_type) or (pattern.endswith(".*") and event_type.startswith(pattern[:-1]))
        for pattern in types
    )


def problem_with_url(url: str, *, plain_http: bool) -> str | None:
    """What is wrong with an address, as a sentence, or None."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        return f"the address cannot be read: {error}"
    if parts.scheme not in ("https", "http") or not parts.hostname:
        return "the address must begin with https:// and name a host"
    if parts.scheme == "http" and not plain_http:
        return "the address must be https; plain http is taken where deliveries.webhook_plain_http says so"
    if parts.username is not None or parts.password is not None:
        return "the address must hold no user or password: the signature says who sends"
    if parts.fragment or len(url) > 2_000 or not url.isascii() or not url.isprintable() or " " in url:
        return "the address must be plain ASCII, at most 2000 characters, without a fragment"
    return None if port != 0 else "the address has no port 0"


def require_endpoint(
    name: str, url: str, types: Sequence[str], expected_type: str, expected_text: str, *, plain_http: bool
) -> None:
    """Refuse what cannot be an endpoint.

    Raises:
        EndpointError: the sentence says what is wrong.
    """
    if not NAME.fullmatch(name):
        raise EndpointError("a name is 1 to 32 of a-z, 0-9 and -, and begins with a letter or digit")
    problem = problem_with_url(url, plain_http=plain_http)
    if problem:
        raise EndpointError(problem)
    if not 1 <= len(types) <= 50:
        raise EndpointError("name 1 to 50 types of events, or * for all")
    for pattern in types:
        if not _PATTERN.fullmatch(pattern) or len(pattern) > 100:
            raise EndpointError(
                f"{pattern[:60]!r} is no type of events such as kopeck.payment.posted.v1 or kopeck.payment.*"
            )
        if not any(wants([pattern], known) for known in EVENT_TYPES):
            raise EndpointError(f"no event has a type like {pattern!r}; there are {', '.join(EVENT_TYPES)}")
    for text, most in ((expected_type, 100), (expected_text, 200)):
        if len(text) > most or (text and not text.isprintable()):
            raise EndpointError(f"what an answer is expected to have is at most {most} printable characters")


def objection_to(answer: HttpAnswer, endpoint: Endpoint) -> str | None:
    """Why a 2xx answer does not acknowledge, as a sentence, or None."""
    content_type = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if endpoint.expected_type and content_type != endpoint.expected_type.lower():
        return f"the answer is {content_type or 'of no type'}, not {endpoint.expected_type}"
    if endpoint.expected_text and endpoint.expected_text.encode() not in answer.body:
        return f"the answer does not say {endpoint.expected_text!r}"
    has_rule = endpoint.expected_type or endpoint.expected_text or endpoint.expects == "any"
    if not has_rule and (_PAGE.match(answer.body) or (content_type == "text/html" and answer.body.strip())):
        return "the answer is a page for people, not an acknowledgement"
    return None


def new_secret() -> str:
    """A new secret, as both sides write it."""
    return secret_text(secrets.token_bytes(SECRET_BYTES))


def require_secret(text: str) -> str:
    """A secret that a person brought.

    Raises:
        EndpointError: it is none.
    """
    try:
        secret_key(text)
    except ValueError as error:
        raise EndpointError(str(error)) from error
    return text
