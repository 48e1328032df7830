"""The colour of every state: codes to tones, in one table.

Rules. A colour never stands alone: a badge has its word. A code without a tone is calm. Good: done, or works. Warn: on
its way, or held back. Bad: failed, or waits for a person. Info: happened, needs nothing. Odd: not known.

Does not know: the words of codes, how a tone looks (web/static/css).
"""

from collections.abc import Mapping
from typing import Final

TONES: Final = ("good", "warn", "bad", "info", "odd", "calm")

#: What a code is of (as in its text's key) -> code -> tone. Every page with states adds its own.
OF_CODES: Final[Mapping[str, Mapping[str, str]]] = {
    "state": {
        "posted": "good", "held": "warn", "sent": "warn", "unknown": "odd", "refused": "bad", "voided": "calm",
        "reversed": "calm",
    },
    "kind": {
        "conflict": "bad", "bad_signature": "bad", "bad_source": "bad", "refusal": "warn", "malformed": "warn",
        "overload": "warn", "repeat": "info", "call": "info",
    },
    "partner_state": {"active": "good", "paused": "warn"},
    "user_state": {"active": "good", "disabled": "calm"},
    "customer_state": {"active": "good"},
    "account_state": {"active": "good", "inactive": "warn"},
    "order_state": {"active": "good", "suspended": "warn", "planned": "info"},
    "run_state": {"running": "warn", "reviewed": "warn", "approving": "warn", "done": "good"},
    "shard_state": {"posted": "good", "drafted": "info", "due": "warn", "failed": "bad"},
    "token_state": {"active": "good"},
    "approval_state": {"waiting": "warn", "done": "good", "refused": "bad", "stale": "info"},
    "job_state": {"queued": "info", "running": "warn", "done": "good", "failed": "bad"},
    "row_outcome": {"done": "good", "skipped": "info", "refused": "bad", "failed": "bad"},
    "schedule_state": {"on": "good", "paused": "warn", "problem": "bad", "late": "bad"},
    "run_outcome": {
        "done": "good", "failed": "bad", "lost": "odd", "running": "info", "waiting": "info", "skipped": "warn",
    },
    "delivery_state": {
        "waiting": "warn", "sending": "warn", "unknown": "odd", "accepted": "info", "delivered": "good",
        "refused": "bad", "manual": "bad", "abandoned": "calm",
    },
    "delivery_outcome": {
        "accepted": "good", "delivered": "good", "refused": "bad", "temporary": "warn", "missing": "info",
        "silent": "odd",
    },
    "queue_state": {"flows": "good", "failing": "warn", "breaker": "bad", "paused": "warn", "held": "bad"},
    "endpoint_state": {"enabled": "good", "failing": "warn", "held": "bad", "disabled": "calm"},
    "invoice_state": {"paid": "good", "overdue": "bad", "credited": "info"},
}  # fmt: skip


def tone(of: str, code: object) -> str:
    """The tone of a code.

    Raises:
        KeyError: there is no such kind of codes.

    >>> tone("state", "posted"), tone("invoice_state", "issued")
    ('good', 'calm')
    """
    return OF_CODES[of].get(str(getattr(code, "value", code)), "calm")
