"""What staff ask of tariffs without any usage: a plan's price, a catalogue as a sheet, units in two languages."""

import json

import pytest

CATALOGUE = """\
kopeck_catalogue: 1
name: sheet
currency: RUB
zone: Europe/Moscow
valid: {from: 2020-01-01, until: 2040-01-01}
taxes:
  vat: {name: VAT, rates: [{from: 2019-01-01, percent: 20}]}
pools:
  minutes: {unit: s}
items:
  fee: {name: {ru: Абонентская плата, en: Monthly fee}, unit: {en: month, ru: месяц}, tax: vat}
  voice: {name: {ru: Звонки, en: Calls}, unit: s}
plans:
  home: {name: {ru: Домашний, en: Home}, items: [fee, voice], pools: [{pool: minutes, quantity: 300 min}]}
prices:
  - {item: fee, versions: [{from: 2020-01-01, tax: inside, steps: [flat: {amount: 490.00}]},
                           {from: 2030-01-01, tax: inside, steps: [flat: {amount: 590.00}]}]}
  - item: voice
    versions: [{from: 2020-01-01, tax: inside, steps: [allowance: {pool: minutes}, per_unit: {price: 0.03}]}]
"""


@pytest.fixture
def sheet(tmp_path):
    path = tmp_path / "sheet.yaml"
    path.write_text(CATALOGUE, "utf-8")
    return path


def test_a_plan_is_priced_without_usage(kopeck, sheet):
    said = kopeck("rate", "--catalog", str(sheet), "--plan", "home", "--since", "2026-03")
    assert said.status == 0, said.err
    text = said.out.replace("\u00a0", " ")
    assert "Account -, March 2026" in text
    assert "Monthly fee" in text
    assert "490.00 RUB" in text
    told = json.loads(kopeck("rate", "--catalog", str(sheet), "--plan", "home", "--since", "2031-01", "--json").out)
    assert [bill["total_minor"] for bill in told["bills"]] == [59_000]


def test_without_usage_and_plan_there_is_nothing_to_price(kopeck, sheet, tmp_path):
    assert "--usage" in kopeck("rate", "--catalog", str(sheet)).err
    empty = tmp_path / "empty.csv"
    empty.write_text("account,item,time,quantity\n")
    said = kopeck("rate", "--catalog", str(sheet), "--usage", str(empty))
    assert (said.status, said.out) == (0, "")
    assert "the file has no rows; --plan NAME without --usage" in said.err


def test_language_has_one_name_and_the_old_one_is_kept(kopeck, sheet):
    priced = ("rate", "--catalog", str(sheet), "--plan", "home", "--since", "2026-03")
    assert "Абонентская плата" in kopeck(*priced, "--language", "ru").out
    assert kopeck(*priced, "--language", "ru").out == kopeck(*priced, "--lang", "ru").out


def test_a_catalogue_is_shown_as_a_sheet(kopeck, sheet):
    assert kopeck("catalogue", "load", str(sheet)).status == 0
    said = kopeck("catalogue", "show", "sheet")
    assert said.status == 0, said.err
    rows = [line.split("\t") for line in said.out.replace("\u00a0", " ").splitlines()]
    assert ["fee", "Monthly fee", "month", "vat"] in rows
    assert ["home", "Home", "fee, voice", "minutes 18,000 s"] in rows
    assert ["fee", "for everybody", "2020-01-01", "flat 490.00", "RUB"] in rows
    assert ["voice", "for everybody", "2020-01-01", "allowance minutes; per unit 0.03 / 1 s", "RUB"] in rows
    russian = kopeck("catalogue", "show", "sheet", "--language", "ru", "--at", "2035-01-01").out.replace("\u00a0", " ")
    assert "fee\tАбонентская плата\tмесяц\tvat" in russian
    assert "fee\tдля всех\t2030-01-01\tфиксированная плата 590,00\tRUB" in russian
    assert "there is no catalogue 'none'" in kopeck("catalogue", "show", "none").err


def test_the_unit_of_an_item_is_stored_with_its_words(kopeck, sheet, database):
    import psycopg2

    assert kopeck("catalogue", "load", str(sheet)).status == 0
    with psycopg2.connect(database.dsn) as connection, connection.cursor() as cur:
        cur.execute("SELECT number, unit, unit_names FROM catalogue_items ORDER BY number")
        assert cur.fetchall() == [("fee", "month", {"en": "month", "ru": "месяц"}), ("voice", "s", {})]
    connection.close()


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("unit: {en: month, ru: месяц}", "unit: {}", "no language is named"),
        ("unit: {en: month, ru: месяц}", "unit: {english: month}", "'english' is no language such as ru or en"),
        ("unit: {en: month, ru: месяц}", "unit: {en: two words}", "unit 'two words' is one word"),
        ("minutes: {unit: s}", "minutes: {unit: min}", "write unit: s in the pool"),
    ],
)
def test_a_wrong_unit_is_told_with_what_to_write(kopeck, sheet, before, after, told):
    sheet.write_text(CATALOGUE.replace(before, after), "utf-8")
    said = kopeck("catalogue", "check", str(sheet))
    assert said.status == 2
    assert told in said.out + said.err


def test_a_sample_is_shown_in_the_zone_of_its_format(kopeck, tmp_path, monkeypatch):
    (tmp_path / "calls.toml").write_text(
        'kind = "csv"\nsource = "calls"\nkey = ["id"]\n[account]\ncolumn = "account"\n[item]\nvalue = "voice"\n'
        '[time]\ncolumn = "at"\nformat = "%Y-%m-%d %H:%M:%S"\nzone = "Europe/Moscow"\noldest_days = 3660\n'
        '[quantity]\ncolumn = "quantity"\n'
    )
    sample = tmp_path / "calls.csv"
    sample.write_text("id,account,at,quantity\n1,7,2026-10-01 01:50:00,5\n")
    said = kopeck("usage", "check-format", str(tmp_path / "calls.toml"), str(sample))
    assert said.status == 0, said.err
    assert "2026-10-01 01:50:00+0300  line=2" in said.out
