"""The bench's options and form; its figures themselves are nobody's business here."""

import json
from pathlib import Path

import pytest
from rich.console import Console

from loadtests.bench import GROUPS, Options, options_from, run, table, write_json
from loadtests.figures import Figure, Setting


def test_without_a_word_every_group_runs_and_no_file_is_written() -> None:
    options = options_from({})
    assert options.groups == tuple(GROUPS)
    assert options.json_path == ""


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"BENCH_ONLY": "payments,tea"}, "no group 'tea'"),
        ({"BENCH_SECONDS": "0"}, "BENCH_SECONDS"),
        ({"BENCH_SECONDS": "five"}, "BENCH_SECONDS"),
        ({"BENCH_PAYMENTS": "999"}, "BENCH_PAYMENTS"),
    ],
)
def test_an_option_that_cannot_be_is_told(environ: dict[str, str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        options_from(environ)


def test_figures_go_into_the_table_and_flat_into_the_file(tmp_path: Path) -> None:
    figures = [Figure("tea_cups_per_s", 1234.5678, "cups/s", "a pot"), Figure("tea_p50_ms", 2.5, "ms", "one cup")]
    write_json(figures, tmp_path / "figures.json")
    assert json.loads((tmp_path / "figures.json").read_text()) == {"tea_cups_per_s": 1234.568, "tea_p50_ms": 2.5}
    console = Console(width=120, record=True, quiet=False)
    console.print(table(figures))
    assert "1 235" in console.export_text()


@pytest.mark.slow
def test_the_payments_group_measures_everything_it_names(tmp_path: Path) -> None:
    options = Options(("payments",), Setting(1, str(tmp_path.parent)))
    names = {figure.name for figure in run(options, Console(quiet=True))}
    assert {
        "bare_handler_per_s",
        "lone_payment_p50_ms",
        "gateway_osmp_pay_per_s",
        "gateway_cyberplat_pay_ratio_to_bare",
        "gateway_cyberplat_signed_pay_2_processes_p99_ms",
        "pgbench_payment_per_s",
        "relay_documents_per_s",
    } <= names


@pytest.mark.slow
def test_the_search_group_measures_everything_it_names(tmp_path: Path) -> None:
    options = Options(("search",), Setting(1, str(tmp_path.parent), 5_000))
    names = {figure.name for figure in run(options, Console(quiet=True))}
    assert {
        "search_default_p95_ms",
        "search_fragment_p50_ms",
        "attempts_default_p95_ms",
        "search_two_people_p95_ms",
        "search_csv_first_row_ms",
        "search_gateways_per_s",
        "search_relay_per_s",
        "search_journal_server_mb",
    } <= names


@pytest.mark.slow
def test_the_group_of_deliveries_measures_what_arrives(tmp_path: Path) -> None:
    figures = run(Options(("deliveries",), Setting(1, str(tmp_path.parent))), Console(quiet=True))
    assert {figure.name for figure in figures} == {"deliveries_per_s", "deliveries_cpu_ms", "deliveries_process_mb"}
    assert all(figure.value > 0 for figure in figures)
