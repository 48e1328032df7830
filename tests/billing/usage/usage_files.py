"""A usage format and files for tests of mediation."""

import io
from datetime import UTC, datetime

from hypothesis import settings

from billing.usage.format import Format, parse_format
from billing.usage.mediation import Mediated, mediate
from billing.usage.values import Known

#: A busy machine is no failure.
UNHURRIED = settings(deadline=None)
#: "Now" of these tests.
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)

CALLS = """
kind = "csv"
source = "switch"
delimiter = ";"
key = ["id"]

[account]
column = "phone"

[item]
column = "type"
map = { "1" = "voice", "2" = "sms" }

[time]
column = "begun"
format = "%d.%m.%Y %H:%M:%S"
zone = "Europe/Moscow"

[quantity]
column = "minutes"
decimal = ","

[destination]
column = "called"
strip = "+ -"
"""
CALLS_HEADER = "id;phone;type;begun;minutes;called\n"


def calls() -> Format:
    """The format CALLS."""
    return parse_format(CALLS, "calls.toml")


def call(key: object, phone: str = "79010000001", minutes: str = "1,5", begun: str = "20.11.2026 10:00:00") -> str:
    """One line of CALLS."""
    return f"{key};{phone};1;{begun};{minutes};+7 495 111-22-33\n"


def run(
    data: bytes,
    made: Format,
    late: str = "accept",
    open_from_s: int | None = None,
    items: frozenset[str] | None = None,
    block: int = 1 << 20,
) -> Mediated:
    """All blocks of a file joined: events as one table, rejects as one list."""
    import pyarrow as pa

    parts = list(mediate(io.BytesIO(data), made, late, Known(int(NOW.timestamp()), open_from_s, items), block))
    events = pa.concat_tables([part.events for part in parts])
    rejects = [reject for part in parts for reject in part.rejects]
    return Mediated(events, sum(part.late for part in parts), rejects, parts[-1].block)


def reasons(outcome: Mediated) -> dict[int, str]:
    """Why lines were rejected, by line."""
    return {reject.line: reject.reason for reject in outcome.rejects}
