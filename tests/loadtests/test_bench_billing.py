"""The bench of the billing cycle in its small form: everything it names is measured, and what it compares is equal."""

from pathlib import Path

import pytest
from rich.console import Console

from loadtests.bench_billing import LEAST, Options, figures, options_from, table
from loadtests.figures import Figure


def test_without_a_word_it_is_two_million_subscribers_and_two_workers() -> None:
    options = options_from({})
    assert (options.subscribers, options.workers, options.json_path) == (2_000_000, 2, "")


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"BENCH_SUBSCRIBERS": "many"}, "BENCH_SUBSCRIBERS"),
        ({"BENCH_SUBSCRIBERS": "10"}, str(LEAST)),
        ({"BENCH_WORKERS": "0"}, "BENCH_WORKERS"),
    ],
)
def test_an_option_that_cannot_be_is_told(environ: dict[str, str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        options_from(environ)


def test_the_table_says_what_each_figure_is() -> None:
    console = Console(width=120, record=True, quiet=False)
    console.print(table([Figure("billing_seconds", 12.5, "s", "all of it")]))
    assert "all of it" in console.export_text()


@pytest.mark.slow
def test_a_small_run_is_clean_and_has_every_figure(tmp_path: Path) -> None:
    found = {one.name: one.value for one in figures(Options(20_000, 2, tmp_path), Console(quiet=True))}
    assert {
        "billing_seconds",
        "billing_subscribers_per_s",
        "billing_lines_per_invoice",
        "billing_transfers_per_invoice",
        "billing_peak_mb",
        "billing_wal_mb",
        "billing_payment_longest_ms",
        "copy_out_seconds",
        "copy_in_seconds",
        "billing_ratio_to_copy",
        "sql_plain_lines_per_s",
        "billing_linearity",
    } <= found.keys()
    assert found["billing_invoices"] == 19_200, "every 25th has a payer other than himself"
    assert found["sql_plain_seconds"] > 0
