"""What the page for product managers shows of a base of subscribers, run on one that is made as the page says."""

import re
import shlex
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

from tests.billing.catalogue.catalogues import EXAMPLES

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("tariffs.md", "tariffs.ru.md")
#: Account, item, quantity in the item's unit: what the page's four subscribers used.
USED = (("79160000002", "voice", 340 * 60), ("79160000003", "data", 10_600), ("79160000004", "data", 12_000))

_EVENT = """
    INSERT INTO usage_events (id, account_id, item, at, counts_at, quantity_micro, duration_s, destination, import_id,
                              line)
    SELECT nextval('usage_ids'), id, %(item)s, '2026-10-10T12:00:00+03:00', '2026-10-10T12:00:00+03:00',
           %(quantity)s * 1000000::bigint, CASE %(item)s WHEN 'voice' THEN %(quantity)s ELSE 0 END, '', 1, 1
    FROM accounts WHERE number = %(number)s
"""


def transcripts(page: str) -> list[tuple[str, list[str]]]:
    """(command, what it says) of the page's transcripts that need a base."""
    text = (ROOT / "docs" / page).read_text("utf-8")
    found = re.findall(r"```text\n\$ (kopeck [^\n]+)\n(.*?)```", text, flags=re.DOTALL)
    return [(command, said.splitlines()) for command, said in found]


@pytest.fixture
def kopeck(kopeck):
    """Runs a command that must succeed and has nothing to complain about; returns what it said."""

    def run(*words: str) -> str:
        status, out, err = kopeck(*words)
        assert (status, err) == (0, "")
        return out

    return run


@pytest.fixture
def base(kopeck, database, tmp_path, monkeypatch) -> None:
    """The page's subscribers, and its draft in the working folder."""
    monkeypatch.chdir(tmp_path)
    text = (EXAMPLES / "mobile.yaml").read_text("utf-8")
    draft = text.replace("amount: 450.00", "amount: 480.00").replace("price: 15.00, size", "price: 10.00, size")
    (tmp_path / "draft.yaml").write_text(draft, "utf-8")
    (tmp_path / "roaming.csv").write_bytes((EXAMPLES / "roaming.csv").read_bytes())
    kopeck("catalog", "load", str(EXAMPLES / "mobile.yaml"), "--rewrite-past")
    for number in range(1, 5):
        account = f"7916000000{number}"
        kopeck("customer", "add", account)
        kopeck("order", "add", account, "--plan", "smart", "--starts", "2026-10-01")
    with closing(psycopg2.connect(database.owner_dsn)) as opened, opened.cursor() as cur:
        cur.execute("SELECT usage_month('2026-10-10')")
        for account, item, quantity in USED:
            cur.execute(_EVENT, {"number": account, "item": item, "quantity": quantity})
        opened.commit()


def test_each_page_has_its_transcripts() -> None:
    assert [[command for command, _ in transcripts(page)] for page in PAGES] == [
        ["kopeck whatif --catalogue draft.yaml --period 2026-10", "kopeck usage rate --period 2026-10"]
    ] * 2


@pytest.mark.parametrize("page", PAGES)
def test_a_command_of_the_page_says_what_the_page_shows(page: str, kopeck, base) -> None:
    for command, shown in transcripts(page):
        said = kopeck(*shlex.split(command)[1:])
        # A page has columns where a pipe has tabs; how long it took is another each time.
        lines = [" ".join(line.split()) for line in said.splitlines() if not re.match("took|seconds of", line)]
        assert lines == [" ".join(line.split()) for line in shown]
