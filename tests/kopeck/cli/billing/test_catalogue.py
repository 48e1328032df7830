"""``kopeck catalog load`` leaves its trace: the audit record, and a word on what no date holds back."""

from contextlib import closing
from pathlib import Path

import psycopg2

EXAMPLE = Path(__file__).parents[4] / "kopeck" / "examples" / "mobile.yaml"


def audited(database) -> list[tuple[object, ...]]:
    """Loads of catalogues on the audit record, in order."""
    with closing(psycopg2.connect(database.dsn)) as connection, connection.cursor() as cur:
        cur.execute(
            "SELECT action, object_kind, object_id, detail, actor LIKE 'system:cli%' FROM audit "
            "WHERE action LIKE 'catalogue%' ORDER BY id"
        )
        return list(cur.fetchall())


def test_a_load_is_on_the_audit_record_once_a_version(kopeck, database, tmp_path) -> None:
    for _ in range(2):
        assert kopeck("catalogue", "load", str(EXAMPLE)).status == 0
    ((*what, detail, by_cli),) = audited(database)
    assert (what, by_cli) == (["catalogue_loaded", "catalogue", "mobile"], True)
    assert (detail["version"], detail["differences"], len(detail["sha256"])) == (1, 0, 64)


def test_a_load_that_is_refused_is_not_on_the_audit_record(kopeck, database, tmp_path) -> None:
    broken = tmp_path / "mobile.yaml"
    broken.write_text("catalogue: mobile\n", "utf-8")
    assert kopeck("catalogue", "load", str(broken)).status == 2
    assert audited(database) == []


def test_a_load_that_changes_what_a_plan_holds_is_refused_until_it_is_meant(kopeck, database, tmp_path) -> None:
    kopeck("catalogue", "load", str(EXAMPLE))
    kopeck("catalogue", "export", "mobile", "--to", str(tmp_path))
    edited = tmp_path / "mobile.yaml"
    text = edited.read_text("utf-8")
    edited.write_text(text.replace("quantity: 300 min", "quantity: 200 min"), "utf-8")
    sentence = "contents of plans have no dates and change at once, for open periods too: smart"
    said = kopeck("catalogue", "load", str(edited))
    assert (said.status, said.out) == (1, "")
    assert "plan smart: pool minutes: 18000 s -> 12000 s" in said.err
    assert said.err.endswith(f"nothing was loaded: {sentence}; --yes-change-plans does it\n")
    assert sentence in kopeck("catalogue", "diff", str(edited)).out
    assert len(audited(database)) == 1
    assert kopeck("catalogue", "load", str(edited), "--yes-change-plans").status == 0
    assert [row[3]["version"] for row in audited(database)] == [1, 2]


def test_a_new_plan_is_loaded_without_asking(kopeck, tmp_path) -> None:
    kopeck("catalogue", "load", str(EXAMPLE))
    kopeck("catalogue", "export", "mobile", "--to", str(tmp_path))
    edited = tmp_path / "mobile.yaml"
    text = edited.read_text("utf-8")
    edited.write_text(text.replace("plans:\n", "plans:\n  wise: {extends: smart}\n", 1), "utf-8")
    said = kopeck("catalogue", "load", str(edited))
    assert (said.status, said.err) == (0, "")
    assert "plan wise: added" in said.out


def test_an_item_cannot_turn_from_the_period_to_use_while_orders_pay_in_advance(kopeck, database, tmp_path) -> None:
    kopeck("catalogue", "load", str(EXAMPLE))
    kopeck("catalogue", "export", "mobile", "--to", str(tmp_path))
    edited = tmp_path / "mobile.yaml"
    flat = "          - flat: {amount: 450.00}\n"
    by_use = "      - from: 2028-01-01\n        steps:\n          - per_unit: {price: 1.00}\n"
    edited.write_text(edited.read_text("utf-8").replace(flat, flat + by_use), "utf-8")
    assert kopeck("customer", "add", "c1", "--name", "One").status == 0
    order = ("order", "add", "c1", "--plan", "smart", "--starts", "2026-11-01", "--in-advance")
    assert kopeck(*order).status == 0
    said = kopeck("catalogue", "load", str(edited))
    assert (said.status, said.out) == (1, "")
    assert "nothing was loaded: orders pay in advance, and items turn" in said.err
    assert ": fee; periods paid already would be billed wrong. Give what is new another item" in said.err
    with closing(psycopg2.connect(database.dsn)) as connection, connection, connection.cursor() as cur:
        cur.execute("UPDATE orders SET settled_at = now()")
    assert kopeck("catalogue", "load", str(edited)).status == 0


# ---- rate: what was asked cannot be


USAGE = EXAMPLE.with_name("usage.csv")


def rated(kopeck, *more: str):
    return kopeck("rate", "--catalog", str(EXAMPLE), "--usage", str(USAGE), "--plan", "smart", *more)


def test_orders_cannot_begin_after_they_were_used(kopeck) -> None:
    assert rated(kopeck, "--since", "2026-11").status == 0
    said = rated(kopeck, "--since", "2026-12")
    assert (said.status, said.out) == (2, "")
    assert "usage.csv:2: is before the orders begin, by --since, and 6 more rows are" in said.err


def test_a_code_and_a_currency_that_nobody_has_are_refused(kopeck) -> None:
    for option, value, words in (
        ("--code", "WELCOM", "no promotion has the code 'WELCOM'; did you mean 'WELCOME'?"),
        ("--currency", "EUR", "there is no price in 'EUR': prices are in RUB"),
        ("--since", "\u0662\u0660\u0662\u0666-\u0660\u0661", "--since is a month such as 2026-01"),
    ):
        said = rated(kopeck, option, value)
        assert (said.status, said.out) == (2, "")
        assert words in said.err


def test_a_catalogue_over_a_limit_is_refused_by_check_load_and_rate(kopeck, tmp_path) -> None:
    pools = "".join(f"  p{number}: {{unit: s}}\n" for number in range(16))
    wide = tmp_path / "mobile.yaml"
    wide.write_text(EXAMPLE.read_text("utf-8").replace("pools:\n", "pools:\n" + pools, 1), "utf-8")
    (tmp_path / "roaming.csv").write_bytes(EXAMPLE.with_name("roaming.csv").read_bytes())
    for status, command in (
        (1, ("catalogue", "check", str(wide))),
        (1, ("catalogue", "load", str(wide))),
        (2, ("rate", "--catalog", str(wide), "--usage", str(USAGE))),
    ):
        said = kopeck(*command)
        assert said.status == status
        assert "17 pools: a catalogue has 16 at most" in said.out + said.err
