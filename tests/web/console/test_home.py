"""The home page over a real site: figures are those of the rows, by rights, and each number opens its list."""

from contextlib import closing
from typing import Any

import psycopg2
import pytest

from tests.web.conftest import Running


def addresses(text: str) -> set[str]:
    return {part.partition('"')[0].replace("&amp;", "&") for part in text.split('href="')[1:]}


def test_every_number_opens_a_list_that_there_is(site: Running) -> None:
    anna = site.person("anna")
    answer = anna.get("/")
    assert answer.status == 200
    lists = [address for address in addresses(answer.text) if "?" in address and not address.startswith("/static")]
    assert any(address.startswith("/payments?period=today") for address in lists)
    for address in lists:
        assert anna.find(address).status == 200, address


def test_what_is_stuck_failed_or_overdue_is_counted(own_site: Running) -> None:
    own_site.rows("UPDATE payments SET state = 'unknown', created_at = now() - interval '1 hour' WHERE id = %s",
                  own_site.seeded.ids["posted"])  # fmt: skip
    answer = own_site.person("anna").get("/")
    [card] = [part for part in answer.text.split('<li class="waiting-card') if "period=year" in part]
    assert "tone-bad" in card
    assert "1\u00a0234,56" in card


def test_cards_are_those_of_the_rights(site: Running) -> None:
    vera, anna = site.person("vera"), site.person("anna")
    assert 'href="/approvals"' in anna.get("/").text.partition('id="waiting"')[2]
    assert 'href="/approvals"' not in vera.get("/").text.partition('id="waiting"')[2]


def test_a_figure_that_is_not_counted_in_its_time_is_told_in_its_card(
    own_site: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("web.console.home.FIGURE_LIMIT_MS", 200)
    anna: Any = own_site.person("anna")
    with closing(psycopg2.connect(own_site.owner_dsn)) as holder, holder.cursor() as cur:
        cur.execute("LOCK TABLE bill_runs IN ACCESS EXCLUSIVE MODE")
        answer = anna.get("/")
        holder.rollback()
    assert answer.status == 200
    assert answer.text.count("waiting-away") == 1
    assert "waiting-away" not in anna.get("/").text
