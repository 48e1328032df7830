"""Letters: a message of mail as the bytes that are sent, however often.

Rules. A letter is made once, when it is queued, and kept byte for byte. Its Message-ID follows from its key, so a
second copy can be told for one. There is always a plain text part; HTML may stand beside it. Header values are one line
each: what would begin another header is refused. An address has an ASCII local part and domain; a domain in
other letters is given in its ASCII form (xn--...).

Does not know: SMTP, who writes what to whom.
"""

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import Final

from billing.refusals import Refusal
from billing.work.deliveries.records import NewDelivery

KIND: Final = "mail"
#: The one mail server there is; settings name it.
RECIPIENT: Final = "smtp"
SUBJECT_MAX: Final = 200
_ADDRESS: Final = re.compile(
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*@"
    r"(?=.{4,255}$)[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)+"
)


class LetterError(Refusal):
    """A clear sentence on why a letter cannot be."""

    default_code = "letter_refused"


@dataclass(frozen=True, slots=True)
class Letter:
    """What is written to one person. html: "" for none."""

    to: str
    subject: str
    text: str
    html: str = ""


def is_address(text: str) -> bool:
    """Whether mail can be sent there.

    >>> [is_address(a) for a in ("ann@example.org", "ann@localhost", "ann example.org", "a..b@example.org")]
    [True, False, False, False]
    """
    return len(text) <= 254 and len(text.partition("@")[0]) <= 64 and _ADDRESS.fullmatch(text) is not None


def parse_sender(text: str) -> Address:
    """``Name <user@domain>`` or an address alone.

    Raises:
        LetterError: it is neither.
    """
    match = re.fullmatch(r"\s*(?:\"?([^\"<>]*?)\"?\s*<([^<>]+)>|([^<>\s]+))\s*", text)
    spec = (match[2] or match[3]) if match else ""
    if not match or not is_address(spec) or not text.isprintable():
        raise LetterError(f"{text[:80]!r} is no sender such as Kopeck <billing@example.org>")
    return Address(display_name=(match[1] or "").strip(), addr_spec=spec)


def queued_letter(letter: Letter, *, key: str, sender: str, at: datetime, asked_by: str) -> NewDelivery:
    """A letter as a delivery. key: acts once. at: the date in the letter.

    Raises:
        LetterError: an address or a subject that cannot be.
    """
    return NewDelivery(
        KIND,
        key,
        RECIPIENT,
        letter_bytes(letter, key=key, sender=sender, at=at),
        subject=letter.subject[:SUBJECT_MAX],
        address=letter.to,
        headers={"from": parse_sender(sender).addr_spec, "message_id": message_id(key, sender)},
        asked_by=asked_by,
    )


def message_id(key: str, sender: str) -> str:
    """The Message-ID of the letter with a key."""
    digest = hashlib.sha256(f"{KIND}:{key}".encode()).hexdigest()[:32]
    return f"<{digest}@{parse_sender(sender).domain}>"


def letter_bytes(letter: Letter, *, key: str, sender: str, at: datetime) -> bytes:
    """The letter as it goes over the wire, with CRLF; 7-bit, so every server takes it."""
    if not is_address(letter.to):
        raise LetterError(f"{letter.to[:80]!r} is no mail address", code="letter_address_bad")
    if not 1 <= len(letter.subject) <= SUBJECT_MAX or not letter.subject.isprintable():
        raise LetterError(f"a subject is 1 to {SUBJECT_MAX} printable characters", code="letter_subject_bad")
    if not letter.text.strip():
        raise LetterError("a letter has a text", code="letter_text_bad")
    message = EmailMessage(SMTP.clone(cte_type="7bit"))
    message["From"] = parse_sender(sender)
    message["To"] = Address(addr_spec=letter.to)
    message["Subject"] = letter.subject
    message["Date"] = format_datetime(at)
    message["Message-ID"] = message_id(key, sender)
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no holiday notes in answer
    message.set_content(letter.text)
    if letter.html:
        message.add_alternative(letter.html, subtype="html")
        for part in message.walk():
            if part.get_content_maintype() == "multipart":
                part.set_boundary(f"=_{hashlib.sha256(key.encode()).hexdigest()[:24]}")
    return bytes(message)
