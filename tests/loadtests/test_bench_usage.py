"""The bench's usage file, and what is made of what the command tells."""

from datetime import UTC, datetime

from kopeck.cli.billing.catalogue import load_catalogue
from loadtests.bench_usage import (
    ACCOUNTS,
    FIRST_ACCOUNT,
    HEADER,
    catalogue_of,
    figures_of,
    months_of,
    write_usage,
)

NOW_S = 1_795_000_000


def test_the_file_is_the_same_every_time_and_no_key_comes_twice(tmp_path) -> None:
    for name in ("a", "b"):
        write_usage(tmp_path / name, 2_000, NOW_S)
    text = (tmp_path / "a").read_text("ascii")
    assert text == (tmp_path / "b").read_text("ascii")
    header, *lines = text.splitlines()
    rows = [line.split(",") for line in lines]
    assert (header + "\n", len(rows), len({row[0] for row in rows})) == (HEADER, 2_000, 2_000)
    assert [row[0] for row in rows] != sorted(row[0] for row in rows)
    assert all(FIRST_ACCOUNT <= int(row[1]) < FIRST_ACCOUNT + ACCOUNTS for row in rows)
    assert max(int(row[3]) for row in rows) < NOW_S


def test_paces_are_of_the_whole_command_and_of_each_stage() -> None:
    told = {"took_s": 4.0, "read_s": 2.0, "keys_s": 1.0, "events_s": 0.5, "peak_bytes": 700_000_000}
    rated = [{"took_s": 1.5, "peak_bytes": 90_000_000}, {"took_s": 0.5, "peak_bytes": 80_000_000}]
    found = {one.name: one.value for one in figures_of(1_000, told, {"took_s": 8.0}, rated)}
    assert found == {
        "usage_import_rows_per_s": 250,
        "usage_import_read_rows_per_s": 500,
        "usage_import_keys_rows_per_s": 1_000,
        "usage_import_events_rows_per_s": 2_000,
        "usage_import_again_rows_per_s": 125,
        "usage_import_peak_mb": 700,
        "usage_rate_rows_per_s": 500,
        "usage_rate_peak_mb": 90,
    }


def test_every_row_of_a_file_is_in_the_months_that_are_rated_and_has_prices(tmp_path) -> None:
    write_usage(tmp_path / "file", 2_000, NOW_S)
    began = [int(line.split(",")[3]) for line in (tmp_path / "file").read_text("ascii").splitlines()[1:]]
    assert sorted({f"{datetime.fromtimestamp(at, UTC):%Y-%m}" for at in began}) == months_of(NOW_S)
    (tmp_path / "bench.yaml").write_text(catalogue_of(NOW_S), "utf-8")
    catalogue, _ = load_catalogue(tmp_path / "bench.yaml")
    assert set(catalogue.items) == {"voice", "sms", "data"}
