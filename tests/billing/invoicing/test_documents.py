"""billing.invoicing.documents: what an invoice says, in both languages, and that its PDF is made, whole and alike each
time."""

import json
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import pytest

from billing.invoicing.amount_in_words import amount_in_words
from billing.invoicing.documents import document_of, file_name_of, make_pdf, new_compiler
from billing.invoicing.invoices import Invoice, InvoiceDetails, InvoiceState, Line, Party
from ratingcore import reference
from ratingcore import tariff as core
from ratingcore.money import Minor

ISSUED_AT = datetime(2026, 11, 1, 3, tzinfo=UTC)


def line(number: int, amount: int, **other: Any) -> Line:
    ppm, inside = other.get("tax_ppm", 220_000), other.get("tax_inside", True)
    net, tax, _ = reference.tax_of(Minor(amount), core.Tax(ppm, inside))
    known: dict[str, Any] = {
        "line": number, "kind": "recurring", "order_id": 1, "item": "fee",
        "names": {"ru": "Абонентская плата", "en": "Monthly fee"}, "plan_names": {"ru": "Домашний", "en": "Home"},
        "account": "A1", "description": "", "unit": "piece", "decimals": 0, "zone": "Europe/Moscow",
        "period_start": datetime(2026, 9, 30, 21, tzinfo=UTC), "period_end": datetime(2026, 10, 31, 21, tzinfo=UTC),
        "proration": "day", "share": (31, 31), "quantity": 1, "discount": Minor(0), "amount": Minor(amount),
        "tax_ppm": ppm, "tax_inside": inside, "net": net, "tax": tax, "is_taxed": True,
    }  # fmt: skip
    return Line(**(known | other))


def details(*lines: Line, previous: int = 0, payments: int = 0, **other: Any) -> InvoiceDetails:
    net, tax = sum(one.net for one in lines), sum(one.tax for one in lines)
    invoice = Invoice(
        1, "I-000042", "invoice", 5, "A1", "Romashka", "RUB", date(2026, 11, 1), date(2026, 11, 15), Minor(net),
        Minor(tax), Minor(net + tax), Minor(0), Minor(net + tax), InvoiceState.ISSUED, 1, None,
    )  # fmt: skip
    seller = Party("ООО «Связь»", {"inn": "7701234567", "kpp": "770101001", "bik": "044525000", "secret": "no"})
    buyer = Party("АО «Ромашка» <&#>", {"inn": "7709876543"})
    known = InvoiceDetails(
        invoice, lines, seller, buyer, "ru", ISSUED_AT, "", None, "", Minor(previous), Minor(payments), Minor(0)
    )
    return replace(known, **other)


def test_sums_and_dates_are_written_as_each_language_writes_them() -> None:
    of = details(line(1, 123_456_789))
    russian, english = document_of(of, "ru"), document_of(of, "en")
    assert russian["totals"][2] == "1\u00a0234\u00a0567,89"
    assert english["totals"][2] == "1,234,567.89"
    assert (russian["title"], english["title"]) == (
        "Счёт № I-000042 от 01.11.2026",
        "Invoice No. I-000042 of 1 Nov 2026",
    )
    assert (russian["result"]["sum"], english["result"]["sum"]) == (
        "1\u00a0234\u00a0567,89\u00a0₽",
        "₽1,234,567.89",
    )


def test_a_line_tells_its_plan_period_share_and_discount() -> None:
    one = line(1, 25_290, share=(16, 31), discount=Minor(1_000), account="A2",
               period_start=datetime(2026, 10, 15, 21, tzinfo=UTC))  # fmt: skip
    shown = document_of(details(one), "ru")["lines"][0]
    assert shown["name"] == "Абонентская плата"
    assert shown["notes"] == [
        "Тариф «Домашний», лицевой\u00a0счёт\u00a0A2",
        "16.10.2026–31.10.2026, 16 из 31 дн. периода, учтена скидка 10,00\u00a0₽",
    ]


def test_a_share_by_the_second_is_shown_in_percent() -> None:
    shown = document_of(details(line(1, 100, share=(1, 3), proration="second")), "en")["lines"][0]
    assert shown["notes"][1].endswith("33.33% of the period")


def test_quantities_have_their_unit_and_a_price_is_shown_only_where_it_is_exact() -> None:
    exact = line(1, 123_450, kind="usage", unit="GB", decimals=3, quantity=12_345, share=None)
    inexact = line(2, 100, kind="usage", unit="GB", decimals=3, quantity=3_333, share=None)
    first, second = document_of(details(exact, inexact), "ru")["lines"]
    assert (first["quantity"], first["price"]) == ("12,345\u00a0ГБ", "100,00")
    assert (second["quantity"], second["price"]) == ("3,333\u00a0ГБ", "")


def test_seconds_are_shown_in_minutes_and_priced_by_the_minute() -> None:
    calls = line(1, 53_568, kind="usage", unit="s", quantity=17_856, share=None)
    brief = line(2, 100, kind="usage", unit="s", quantity=50, share=None)
    for language, shown in (("ru", ("297 мин 36 с", "1,80 / мин")), ("en", ("297 min 36 s", "1.80 / min"))):
        first, second = document_of(details(calls, brief), language)["lines"]
        assert (first["quantity"].replace("\u00a0", " "), first["price"].replace("\u00a0", " ")) == shown
        assert second["quantity"].startswith("50")


def test_a_unit_is_called_as_people_or_as_the_catalogue_call_it() -> None:
    month = line(1, 100, kind="usage", unit="month", quantity=1, share=None)
    own = line(2, 100, kind="usage", unit="pair", unit_names={"en": "pair", "ru": "пара"}, quantity=2, share=None)
    russian, english = (document_of(details(month, own), language)["lines"] for language in ("ru", "en"))
    assert [one["quantity"] for one in russian] == ["1\u00a0мес.", "2\u00a0пара"]
    assert [one["quantity"] for one in english] == ["1\u00a0month", "2\u00a0pair"]


def test_the_price_says_whether_tax_is_in_it() -> None:
    inside, outside = line(1, 100), line(2, 100, tax_inside=False)
    untaxed = line(3, 100, tax_ppm=0)
    assert document_of(details(inside, untaxed))["price"] == "Цена с НДС"
    assert document_of(details(outside, untaxed))["price"] == "Цена без НДС"
    assert document_of(details(inside, outside))["price"] == "Цена"


def test_tax_is_shown_by_rate_and_the_rates_sum_to_the_invoice() -> None:
    lines = [
        line(1, 12_200),
        line(2, 12_000, tax_ppm=200_000),
        line(3, 1_000, tax_ppm=0, is_taxed=False),
        line(4, 5_000, tax_inside=False),
        line(5, 700, tax_ppm=0),
    ]
    document = document_of(details(*lines), "en")
    assert document["taxes"] == [
        ["22%", "150.00", "33.00", "183.00"],
        ["20%", "100.00", "20.00", "120.00"],
        ["0%", "7.00", "0.00", "7.00"],
        ["No VAT", "10.00", "–", "10.00"],
    ]
    assert document["totals"] == ["267.00", "53.00", "320.00"]


def test_a_rate_of_nothing_is_not_the_absence_of_tax() -> None:
    lines = [line(1, 1_000, tax_ppm=0), line(2, 1_000, tax_ppm=0, is_taxed=False)]
    russian, english = (document_of(details(*lines), language) for language in ("ru", "en"))
    assert [(one["rate"], one["tax"]) for one in russian["lines"]] == [("0\u00a0%", "0,00"), ("Без НДС", "–")]
    assert [(one["rate"], one["tax"]) for one in english["lines"]] == [("0%", "0.00"), ("No VAT", "–")]
    assert [row[0] for row in russian["taxes"]] == ["0\u00a0%", "Без НДС"]


def test_a_correction_of_a_line_written_by_hand_has_no_period() -> None:
    credit = line(1, -100, kind="credit", names={}, plan_names={}, description="Penalty")
    assert document_of(details(credit), "en")["lines"][0]["notes"] == ["credit of line 1"]


def test_the_way_to_the_sum_to_pay_adds_up() -> None:
    document = document_of(details(line(1, 10_000), previous=-5_000, payments=3_000), "en")
    assert document["balance"] == [
        ["Balance brought forward (owed)", "50.00"],
        ["Payments received", "−30.00"],
        ["This invoice", "100.00"],
    ]
    assert document["result"] == {
        "label": "Amount to pay", "sum": "₽120.00", "words": "One hundred twenty roubles 00 kopecks",
    }  # fmt: skip


def test_who_has_paid_before_has_nothing_to_pay() -> None:
    document = document_of(details(line(1, 10_000), previous=30_000), "ru")
    assert document["balance"][0] == ["Остаток на начало (в пользу заказчика)", "−300,00"]
    assert document["result"]["label"] == "К оплате ничего нет; остаток в пользу заказчика"
    assert document["result"]["sum"] == "200,00\u00a0₽"


def test_a_credit_note_names_what_it_corrects_and_why_and_asks_for_nothing() -> None:
    known = details(line(3, -6_100, kind="credit"))
    invoice = replace(known.invoice, number="C-000001", kind="credit_note", corrects_id=7)
    note = replace(known, invoice=invoice, corrects_number="I-000042", corrects_on=date(2026, 11, 1), why="обрыв связи")
    document = document_of(note, "ru")
    assert document["title"] == "Корректировочный счёт № C-000001 от 01.11.2026"
    assert document["subtitle"] == ["к счёту № I-000042 от 01.11.2026", "Причина: обрыв связи"]
    assert document["lines"][0]["notes"][1].endswith("уменьшение по строке 3")
    assert (document["balance"], document["result"]["label"], document["result"]["sum"]) == (
        [], "Всего уменьшено", "61,00\u00a0₽",
    )  # fmt: skip


def test_what_a_seller_keeps_beside_his_details_is_not_shown() -> None:
    assert "secret" not in json.dumps(document_of(details(line(1, 100))), ensure_ascii=False)


def test_a_pdf_is_made_and_the_same_invoice_gives_the_same_bytes() -> None:
    document = document_of(details(*(line(number, 49_000) for number in range(1, 60))))
    first = make_pdf(new_compiler(), document, ISSUED_AT)
    assert first.startswith(b"%PDF-")
    assert b"/Type/Pages/Count 4" in first
    compiler = new_compiler()
    other = make_pdf(compiler, document_of(details(line(1, 100))), ISSUED_AT)
    assert make_pdf(compiler, document, ISSUED_AT) == first != other


def test_a_draft_has_a_pdf_without_a_date() -> None:
    known = details(line(1, 100))
    draft = replace(known, invoice=replace(known.invoice, number="", state=InvoiceState.DRAFT), issued_at=None)
    document = document_of(draft, "ru")
    assert (document["draft"], document["title"]) == ("ПРОЕКТ", "Проект счёта от 01.11.2026")
    assert make_pdf(new_compiler(), document, None).startswith(b"%PDF-")


@pytest.mark.parametrize(
    "text", ["#panic()", "$ x $", "*bold* _it_", '"quoted" \\ back', "= heading", "@ref <label>", "`code`"]
)
def test_what_people_wrote_is_text_and_never_markup(text: str) -> None:
    document = document_of(details(line(1, 100, description=text, kind="manual")))
    document["buyer"]["name"] = text
    assert make_pdf(new_compiler(), document, ISSUED_AT).startswith(b"%PDF-")


WORDS = [
    (0, "Ноль рублей 00 копеек", "Zero roubles 00 kopecks"),
    (1_01, "Один рубль 01 копейка", "One rouble 01 kopeck"),
    (2_02, "Два рубля 02 копейки", "Two roubles 02 kopecks"),
    (11_11, "Одиннадцать рублей 11 копеек", "Eleven roubles 11 kopecks"),
    (121_00, "Сто двадцать один рубль 00 копеек", "One hundred twenty-one roubles 00 kopecks"),
    (1_000_00, "Одна тысяча рублей 00 копеек", "One thousand roubles 00 kopecks"),
    (22_012_99, "Двадцать две тысячи двенадцать рублей 99 копеек", "Twenty-two thousand twelve roubles 99 kopecks"),
    (1_000_005_00, "Один миллион пять рублей 00 копеек", "One million five roubles 00 kopecks"),
    (10**15, "Десять триллионов рублей 00 копеек", "Ten trillion roubles 00 kopecks"),
]


@pytest.mark.parametrize(("amount", "russian", "english"), WORDS)
def test_a_sum_in_words(amount: int, russian: str, english: str) -> None:
    assert amount_in_words(amount, "RUB", "ru") == russian
    assert amount_in_words(amount, "RUB", "en") == english


def test_a_currency_without_words_is_written_with_its_code() -> None:
    assert amount_in_words(2_50, "CHF", "ru") == "Два CHF 50/100"


def test_a_file_is_named_by_the_number_and_by_nothing_that_leaves_its_folder() -> None:
    assert file_name_of("I-000042", 1) == "I-000042.pdf"
    assert file_name_of("../../A/1", 1) == ".._.._A_1.pdf"


def test_a_language_without_words_for_sums_has_a_document_without_them() -> None:
    assert amount_in_words(2_50, "RUB", "kk") == ""
    document = document_of(details(line(1, 100)), "en")
    document["result"] |= {"words": ""}
    assert make_pdf(new_compiler(), document, ISSUED_AT).startswith(b"%PDF")
