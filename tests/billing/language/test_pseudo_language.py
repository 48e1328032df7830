"""Documents and bills in a language that is a .po file alone have no text of ours that it does not tell."""

from datetime import UTC, datetime
from typing import Any

from billing.invoicing.documents import document_of, make_pdf, new_compiler, state_words
from billing.rating.printout import report
from tests.billing.catalogue.catalogues import EXAMPLES, example
from tests.billing.invoicing.test_documents import details, line
from tests.billing.language.pseudo import pseudo, pseudo_language, untold, words_of, words_of_formats
from tests.billing.rating.test_bills import example_bill

__all__ = ["pseudo_language"]


def strings_of(content: Any) -> list[str]:
    """Every text of a document."""
    if isinstance(content, dict):
        return [text for value in content.values() for text in strings_of(value)]
    if isinstance(content, list):
        return [text for item in content for text in strings_of(item)]
    return [content] if isinstance(content, str) else []


def test_a_document_has_no_text_that_the_language_does_not_tell(pseudo_language: str) -> None:
    lines = [
        line(1, 12_200, share=(1, 3), account="A2", discount=100),
        line(2, 500, kind="minimum", names={}, item=""),
        line(3, 700, tax_ppm=0, is_taxed=False, kind="adjustment", unit="s", quantity=90),
        line(4, 900, proration="second", share=(1, 7), unit="GB"),
    ]
    shown = details(*lines, previous=-500, payments=100)
    document = document_of(shown, pseudo_language)
    data = words_of("Romashka Ромашка ООО АО Связь Абонентская плата Monthly fee Домашний Home RUB fi page pages")
    assert [word for text in strings_of(document) for word in untold(text, data)] == []
    assert [word for text in state_words(shown.invoice, pseudo_language) for word in untold(text, data)] == []
    assert pseudo("Description") == document["texts"]["name"]
    assert make_pdf(new_compiler(), document, datetime(2026, 11, 1, tzinfo=UTC)).startswith(b"%PDF")


def test_a_bill_and_its_derivation_have_no_text_that_the_language_does_not_tell(pseudo_language: str) -> None:
    catalogue = example("mobile.yaml")
    bill = example_bill(codes=("WELCOME",), first_month=(2026, 11))
    texts = list(report(catalogue, [bill], [], "RUB", pseudo_language, explain=True))
    assert len(texts) > 30
    names = [name for item in catalogue.items.values() for name in item.names.values()]
    names += [name for promotion in catalogue.promotions for name in promotion.names.values()]
    codes = [*catalogue.items, *catalogue.pools, *catalogue.plans, "mobile.yaml", "usage.csv", "RUB", "night", "day"]
    data = words_of(*names, *codes, (EXAMPLES / "usage.csv").read_text("utf-8")) | words_of_formats()
    assert {word: text for text in texts for word in untold(text, data)} == {}
