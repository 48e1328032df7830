"""Payments for people: search, filters, totals, pages, export, one payment, and taking one back."""

import asyncio
import csv
import io
import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from adapters.messages import Reason, Result
from billing.language import Formats
from gateway.journal.totals import Sum, Totals
from gateway.payments.states import State
from tests.web import seed
from web.console.payments.payments import CANCELLABLE, PAGE_ROWS, cancel_message, grouped


def rows(answer):
    """Ids of the listed payments, in order."""
    return [int(found) for found in re.findall(r'class="row-link" href="/payments/(\d+)"', answer.text)]


def money(minor):
    return Formats("ru").money(minor, "RUB").replace("\u00a0", " ")


def plain(answer):
    return answer.words.replace("\u00a0", " ")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("ID", "posted"),
        ("№ ID", "posted"),
        ("9000000001", "posted"),
        ("79161234567", "posted"),
        ("+7 (916) 123-45-67", "posted"),
        ("8 916 123-45-67", "posted"),
        ("1234567", "posted"),
        ("3456", "posted"),
        ("1234.56", "posted"),
        ("1 234,56", "posted"),
        ("1 234,56 ₽", "posted"),
        ("ёлкина", "posted"),
        ("ЕЛКИНА анна", "posted"),
        ("ООО", "to_cancel"),
        ("=1+1", "formula"),
    ],
)
def test_one_box_takes_any_id_account_phone_fragment_key_name_and_sum(site, text, name):
    wanted = site.seeded.ids[name]
    assert wanted in rows(site.person("vera").find("/payments", q=text.replace("ID", str(wanted)), period="7d"))


def test_an_exact_id_comes_first_and_is_found_outside_the_dates_too(site):
    wanted = site.seeded.ids["posted"]
    answer = site.person("vera").find("/payments", q=str(wanted), period="yesterday")
    assert rows(answer)[0] == wanted
    assert "совпал номер" in answer.words
    assert "совпал ключ партнёра" in site.person("vera").find("/payments", q="9000000001").words


def test_what_a_stranger_typed_is_shown_escaped(site):
    answer = site.person("vera").find("/payments", q="79522223344")
    assert "<script>alert" not in answer.text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in answer.text
    answer = site.person("vera").find("/payments", q='"><img src=x>')
    assert "<img src=x" not in answer.text


def test_each_state_can_be_asked_for_alone_and_together(site):
    person = site.person("vera")
    for states in (["posted"], ["refused"], ["reversed"], ["refused", "reversed"], ["held"]):
        answer = person.find("/payments", state=states, period="year")
        told = set(re.findall(r'<tr role="row" data-state="([a-z]+)"', answer.text))
        assert told == (set(states) - {"held"}), states


def test_partner_and_sum_range_narrow_the_list(site):
    answer = site.person("vera").find("/payments", partner="osmp", min="1000", max="1 234,56", period="year")
    listed = site.rows(
        "SELECT p.id FROM payments p JOIN partners w ON w.id = p.partner_id"
        " WHERE w.code = 'osmp' AND amount_minor BETWEEN 100000 AND 123456 ORDER BY p.created_at DESC"
    )
    assert rows(answer) == [row[0] for row in listed]
    assert site.seeded.ids["posted"] in rows(answer)


def test_pages_go_through_everything_once_and_back(site):
    person = site.person("vera")
    expected = [row[0] for row in site.rows("SELECT id FROM payments ORDER BY created_at DESC, id DESC")]
    assert len(expected) > 2 * PAGE_ROWS
    seen, path, pages = [], "/payments?period=year", []
    while path:
        answer = person.find(path)
        seen += rows(answer)
        pages.append(rows(answer))
        following = re.search(r'rel="next" href="([^"]+)"', answer.text)
        path = following and following[1].replace("&amp;", "&")
    assert seen == expected
    back = []
    while previous := re.search(r'rel="prev" href="([^"]+)"', answer.text):
        answer = person.find(previous[1].replace("&amp;", "&"))
        back.append(rows(answer))
    assert back == pages[-2::-1]


def test_a_broken_place_in_the_list_is_told_and_leads_back(site):
    answer = site.person("vera").get("/payments", period="7d", after="gibberish")
    assert answer.status == 400
    assert "Ссылка на страницу списка испорчена" in answer.words
    assert 'href="/payments?period=7d"' in answer.text


def test_totals_are_of_the_whole_filtered_set(site):
    answer = site.person("vera").find("/payments", period="year")
    sums = dict(site.rows("SELECT state, sum(amount_minor)::bigint FROM payments GROUP BY state"))
    counts = dict(site.rows("SELECT state, count(*) FROM payments GROUP BY state"))
    told = plain(answer)
    assert f"Найдено {sum(counts.values())} " in told
    assert f"1–{PAGE_ROWS} из {sum(counts.values())}" in told
    assert f"Зачислен {money(sums['posted'])} {counts['posted']} " in told
    assert f"Возвращён 500,00 ₽ {counts['reversed']} " in told
    assert f"Аннулирован без суммы {counts['voided']} " in told
    assert f"Отказан {money(sums['refused'])} {counts['refused']} " in told


def test_a_search_by_text_or_sum_has_totals_only_where_the_page_shows_everything(site):
    person = site.person("vera")
    some = plain(person.find("/payments", q="79161234567", min="1234.56", max="1234.56", period="year"))
    assert re.search(r"Найдено 1 платёж .*Зачислен 1 234,56 ₽ 1 платёж", some)
    many = plain(person.find("/payments", q="7916", period="year"))
    counted = site.one("SELECT count(*) FROM payments WHERE account_number LIKE '%%7916%%'")
    assert (counted > PAGE_ROWS) == ("По тексту и суммам итоги не считаются" in many)
    assert "По тексту и суммам итоги не считаются" in plain(person.find("/payments", min="0", period="year"))


def test_a_page_that_runs_out_of_time_says_how_far_it_came_and_goes_on_at_a_click(site, monkeypatch):
    monkeypatch.setattr("gateway.journal.journal.PAGE_BUDGET_S", 0.0)
    monkeypatch.setattr("gateway.journal.windows.FIRST_DOCUMENTS", 10)
    person = site.person("vera")
    path, seen, reached = "/payments?period=year&min=500&max=999", [], 0
    while path:
        answer = person.find(path)
        seen += rows(answer)
        is_short = "Это ещё не весь период" in answer.words
        reached += is_short
        assert is_short == (">Искать дальше<" in answer.text)
        assert "Платежи не найдены" not in answer.words or not is_short
        following = re.search(r'rel="next" href="([^"]+)"', answer.text)
        path = following and following[1].replace("&amp;", "&")
    listed = site.rows(
        "SELECT id FROM payments WHERE amount_minor BETWEEN 50000 AND 99900 ORDER BY created_at DESC, id DESC"
    )
    assert seen == [row[0] for row in listed]
    assert reached > 1
    assert "Пока ничего не найдено" in person.find("/payments?min=99999999").words


@pytest.mark.parametrize("path", ["/payments", "/attempts"])
@pytest.mark.parametrize("after", ["bjI1MzQwMjMwMDc5OTk5OS4x", "cDI1MzQwMjMwMDc5OTk5OS4x"])
def test_a_place_beyond_the_year_9999_is_refused(site, path, after):
    answer = site.person("vera").get(path, after=after)
    assert answer.status == 400
    assert "Ссылка на страницу списка испорчена" in answer.words


def test_totals_are_told_per_currency_and_state_in_one_order_and_never_mixed():
    totals = Totals(7, (Sum("RUB", "refused", 1, 5), Sum("RUB", "held", 2, 7), Sum("USD", "posted", 4, 100)))
    assert grouped(totals)["currencies"] == [
        ("RUB", [("held", 2, 7), ("refused", 1, 5)]),
        ("USD", [("posted", 4, 100)]),
    ]


def test_every_state_is_told_by_the_totals():
    for state in State:
        told = grouped(Totals(1, (Sum("RUB", state.value, 1, 5),)))["currencies"]
        assert told == [("RUB", [(state.value, 1, 5)])]


def test_bad_fields_keep_what_was_typed_beside_their_message(site):
    answer = site.person("vera").get("/payments", q="x", min="abc", **{"from": "31.02.2026"})
    assert answer.status == 400
    assert re.search('name="min"[^>]* value="abc"', answer.text)
    assert re.search('name="from"[^>]* value="31.02.2026"', answer.text)
    assert "Такой даты нет" in answer.words
    assert "Это не сумма" in answer.words
    assert 'aria-describedby="min-error"' in answer.text
    assert rows(answer) == []


def test_an_address_is_rewritten_to_its_shortest_form(site):
    person = site.person("vera")
    answer = person.get("/payments?q=&period=30d&min=&max=")
    assert (answer.status, answer.location) == (302, "/payments")
    answer = person.get("/payments?max=&q=++7+&state=posted&state=posted")
    assert answer.location == "/payments?q=7&state=posted"


def test_an_empty_list_offers_a_way_out(site):
    answer = site.person("vera").find("/payments", q="nothing-like-this", **{"from": "01.11.2026", "to": "02.11.2026"})
    assert "Платежи не найдены" in answer.words
    assert "За период 01.11.2026–02.11.2026 по запросу «nothing-like-this» ничего нет." in answer.words
    assert re.search(r'href="/payments\?q=nothing-like-this&amp;period=year">Искать за год<', answer.text)
    assert re.search(r'href="/payments"[^>]*>Сбросить фильтр', answer.text)


# -- export ------------------------------------------------------------------------------------------------------------


def test_an_export_is_the_filtered_set_as_a_table_of_the_russian_locale(site):
    answer = site.person("oleg").find("/payments.csv", period="year")
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert re.fullmatch(
        r'attachment; filename="payments-\d{8}-\d{8}T\d{6}Z.csv"', answer.headers["Content-Disposition"]
    )
    assert answer.body.startswith(b"\xef\xbb\xbf")
    table = list(csv.DictReader(io.StringIO(answer.body.decode("utf-8-sig"), newline=""), delimiter=";"))
    listed = site.rows("SELECT id, amount_minor FROM payments ORDER BY created_at DESC, id DESC")
    assert [(int(line["№"]), int(line["Сумма"].replace(",", ""))) for line in table] == listed
    dangerous = next(line for line in table if line["№"] == str(site.seeded.ids["formula"]))
    assert dangerous["Ключ партнёра"] == "'=1+1"


def test_an_export_of_a_bad_filter_or_by_a_viewer_is_refused(site):
    assert site.person("oleg").get("/payments.csv", min="abc").status == 400
    assert site.person("vera").get("/payments.csv").status == 403


def test_an_export_over_its_limit_is_refused_with_the_limit_named(site, monkeypatch):
    monkeypatch.setattr("web.console.payments.payments.EXPORT_MAX_ROWS", 100)
    answer = site.person("oleg").get("/payments.csv", period="year")
    assert answer.status == 400
    assert "больше 100 платежей" in answer.words


def test_an_export_that_nothing_counts_says_where_it_was_cut(site, monkeypatch):
    monkeypatch.setattr("web.console.payments.payments.EXPORT_MAX_ROWS", 20)
    answer = site.person("oleg").find("/payments.csv", period="year", min="0")
    lines = answer.body.decode("utf-8-sig").splitlines()
    assert len(lines) == 1 + 20 + 1
    assert "Здесь файл обрывается: больше 20 строк" in lines[-1]
    whole = site.person("oleg").find("/payments.csv", q="=1+1", period="year").body.decode("utf-8-sig").splitlines()
    assert len(whole) == 2


# -- one payment -------------------------------------------------------------------------------------------------------


def test_a_payments_page_tells_parties_ids_timeline_transfers_and_attempts(site):
    told = plain(site.person("vera").get(f"/payments/{site.seeded.ids['posted']}"))
    for words in (
        "1 234,56 ₽ Зачислен",
        "От кого QIWI Терминалы",
        "Кому Ёлкина Анна Петровна 79161234567",
        "Ключ партнёра 9000000001",
        "Принят и зачислен",
        "command=pay&txn_id=9000000001",
        "<prv_txn>",
        "Удержание clearing:osmp:RUB transit:RUB 1 234,56 ₽",
        "Зачисление transit:RUB 79161234567 1 234,56 ₽",
        "Повтор уже принятого",
    ):
        assert words in told, words


def test_a_reversed_payment_tells_both_events_and_a_conflict_stands_with_its_payment(site):
    person = site.person("vera")
    told = plain(person.get(f"/payments/{site.seeded.ids['reversed']}"))
    assert "Возвращён партнёру" in told
    assert "Возврат 79265550102 clearing:osmp:RUB 500,00 ₽" in told
    assert "Ответ партнёру при приёме Успешно" in told
    page = person.get(f"/payments/{site.seeded.ids['conflicting']}")
    told = plain(page)
    assert "Конфликт: зачислено 100,00 ₽, партнёр прислал 200,00 ₽" in told  # the banner
    assert "Зачислено 100,00 ₽, партнёр прислал 200,00 ₽" in told  # the request's row
    assert "Тот же ключ с другим содержанием" in told
    assert f'id="{re.search("#(attempt-[0-9]+)", page.text)[1]}"' in page.text


def test_a_refused_payment_tells_why_and_that_no_money_moved(site):
    told = plain(site.person("vera").get(f"/payments/{site.seeded.ids['refused']}"))
    assert "Лицевой счёт не действует" in told
    assert "Деньги не двигались" in told


def test_the_way_back_leads_to_the_list_one_came_from(site):
    person = site.person("vera")
    path = f"/payments/{site.seeded.ids['posted']}"
    here = f"http://127.0.0.1:{site.port}"
    for referer, back in (
        (f"{here}/payments?q=7&state=posted", "/payments?q=7&amp;state=posted"),
        ("http://evil.example/payments?q=7", "/payments"),
        (f"{here}/audit?q=7", "/payments"),
        ("http://[", "/payments"),
    ):
        person.extra = {"Referer": referer}
        assert f'<li><a href="{back}">' in person.get(path).text, referer


def test_a_payment_that_does_not_exist_is_told(site):
    answer = site.person("vera").get("/payments/7")
    assert answer.status == 404
    assert "Платежа с таким номером нет" in answer.words


def test_a_stranger_sees_the_same_payment_in_english(site):
    person = site.person("vera")
    person.cookies["kopeck_language"] = "en"
    person.language = "en"
    told = plain(person.get(f"/payments/{site.seeded.ids['posted']}"))
    assert "₽1,234.56 Posted" in told
    assert not re.search("[а-яё]{3,}", re.sub("QIWI Терминалы|Ёлкина Анна Петровна|Русский", "", told), re.IGNORECASE)


def test_every_view_of_a_payment_is_on_record_before_it_is_shown(own_site):
    wanted = own_site.seeded.ids["posted"]
    person = own_site.person("vera")
    person.get(f"/payments/{wanted}")
    person.find("/payments", q="9000000001")
    person.get("/payments.csv")
    told = own_site.rows("SELECT actor, action, object_kind, object_id, detail FROM audit ORDER BY id")[-3:]
    assert told == [
        ("user:vera", "payment_viewed", "payment", str(wanted), {}),
        ("user:vera", "payments_listed", "", "", {"filter": "q=9000000001"}),
        ("user:vera", "denied", "", "", {"path": "/payments.csv", "right": "payments.export"}),
    ]


# -- taking one back ---------------------------------------------------------------------------------------------------

REASON = {"reason": "Звонок абонента: ошибся счётом", "confirmed": "yes"}


def cancel(person, payment_id, **fields):
    path = f"/payments/{payment_id}/cancel"
    return person.post(path, {**REASON, **fields}, path)


def test_an_operator_takes_a_payment_back_with_a_reason_and_it_is_on_record(own_site):
    wanted = own_site.seeded.ids["to_cancel"]
    person = own_site.person("oleg")
    answer = cancel(person, wanted)
    assert (answer.status, answer.location) == (303, f"/payments/{wanted}")
    told = plain(person.get(answer.location))
    assert "Платёж возвращён." in told
    assert "Сотрудник oleg" in told
    assert REASON["reason"] in told
    assert "Вернуть платёж" not in told
    assert own_site.one("SELECT state FROM payments WHERE id = %s", wanted) == "reversed"
    event = own_site.rows("SELECT actor, note FROM payment_events WHERE payment_id = %s AND event = 'reverse'", wanted)
    assert event == [("user:oleg", REASON["reason"])]
    actions = [
        row[0] for row in own_site.rows("SELECT action FROM audit WHERE object_id = %s ORDER BY id", str(wanted))
    ]
    assert actions == ["payment_viewed", "payment_cancel_asked", "payment_cancelled", "payment_viewed"]


def test_a_second_press_and_a_second_person_cancel_nothing_twice(own_site):
    wanted = own_site.seeded.ids["to_cancel"]
    people = [own_site.person("oleg"), own_site.person("anna")]
    forms = [(person, person.find(f"/payments/{wanted}/cancel").hidden("csrf")) for person in people for _ in range(3)]

    def press(form):
        person, token = form
        return person.post(f"/payments/{wanted}/cancel", {**REASON, "csrf": token})

    with ThreadPoolExecutor(len(forms)) as pool:
        answers = list(pool.map(press, forms))
    assert {answer.status for answer in answers} == {303}
    steps = own_site.rows("SELECT step FROM transfers WHERE source = 'payment' AND source_id = %s ORDER BY id", wanted)
    assert [step for (step,) in steps] == ["hold", "post", "reverse"]
    told = [row[0]["reason"] for row in own_site.rows("SELECT detail FROM audit WHERE action = 'payment_cancelled'")]
    assert sorted(told) == sorted(["ok"] + ["already_cancelled"] * 5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"reason": ""}, "Напишите причину"),
        ({"reason": "нет"}, "Напишите причину"),
        ({"reason": "x" * 501}, "Напишите причину"),
        ({"confirmed": ""}, "Подтвердите, что проверили платёж"),
    ],
)
def test_without_a_reason_or_a_confirmation_nothing_happens(site, fields, message):
    wanted = site.seeded.ids["to_cancel_too"]
    answer = cancel(site.person("oleg"), wanted, **fields)
    assert answer.status == 400
    assert message in answer.words
    assert site.one("SELECT state FROM payments WHERE id = %s", wanted) == "posted"


@pytest.mark.parametrize("name", ["refused", "reversed"])
def test_a_state_that_cannot_be_cancelled_offers_no_button_and_refuses_the_form(site, name):
    wanted = site.seeded.ids[name]
    person = site.person("oleg")
    assert "Вернуть платёж" not in person.get(f"/payments/{wanted}").words
    page = person.get(f"/payments/{wanted}/cancel")
    assert page.status == 409
    assert "вернуть нельзя" in page.words
    answer = person.post(f"/payments/{wanted}/cancel", REASON | {"csrf": page.hidden("csrf")})
    told = person.get(answer.location).words
    assert ("Платёж не возвращён" if name == "refused" else "уже был возвращён") in told


def test_before_a_reversal_the_accounts_balance_is_told_now_and_after(own_site):
    wanted = own_site.seeded.ids["to_cancel"]
    person = own_site.person("oleg")
    told = plain(person.get(f"/payments/{wanted}/cancel"))
    assert "На лицевом счёте сейчас 7 000,00 ₽ Станет после возврата 4 000,00 ₽" in told
    own_site.rows("UPDATE accounts SET balance_minor = 299999 WHERE number = '79857770011'")
    own_site.rows("UPDATE accounts SET floor_minor = 0 WHERE number = '79857770011'")
    page = person.get(f"/payments/{wanted}/cancel")
    assert page.status == 409
    assert "На лицевом счёте меньше, чем сумма платежа" in page.words
    assert 'name="confirmed"' not in page.text
    answer = person.post(f"/payments/{wanted}/cancel", REASON | {"csrf": page.hidden("csrf"), "may_owe": "yes"})
    assert "Платёж не возвращён: Возврат невозможен" in person.get(answer.location).words


def test_a_wrong_payment_to_a_debtor_is_taken_back_after_a_second_tick(own_site):
    wanted = own_site.seeded.ids["to_cancel"]
    person = own_site.person("oleg")
    own_site.rows("UPDATE accounts SET balance_minor = -50000 WHERE number = '79857770011'")
    page = person.get(f"/payments/{wanted}/cancel")
    assert page.status == 200
    assert "Понимаю, что после возврата лицевой счёт будет должен 3 500,00 ₽" in plain(page)
    answer = person.post(f"/payments/{wanted}/cancel", REASON | {"csrf": page.hidden("csrf")})
    assert answer.status == 400
    assert "Подтвердите, что лицевой счёт может уйти в долг" in answer.words
    assert own_site.one("SELECT state FROM payments WHERE id = %s", wanted) == "posted"
    answer = cancel(person, wanted, may_owe="yes")
    assert "Платёж возвращён." in person.get(answer.location).words
    assert own_site.one("SELECT balance_minor FROM accounts WHERE number = '79857770011'") == -350_000


def test_a_payment_of_which_part_was_refunded_is_not_reversed_as_a_whole(own_site):
    wanted = own_site.seeded.ids["to_cancel"]
    own_site.rows("UPDATE payments SET returned_minor = 10000 WHERE id = %s", wanted)
    person = own_site.person("oleg")
    page = person.get(f"/payments/{wanted}/cancel")
    assert page.status == 409
    assert "уже сняли 100,00 ₽" in plain(page)
    answer = person.post(f"/payments/{wanted}/cancel", REASON | {"csrf": page.hidden("csrf")})
    assert "Платёж не возвращён" in person.get(answer.location).words
    assert own_site.one("SELECT state FROM payments WHERE id = %s", wanted) == "posted"


def test_a_viewer_sees_no_button_and_cannot_send_the_form(site):
    wanted = site.seeded.ids["posted"]
    person = site.person("vera")
    page = person.get(f"/payments/{wanted}")
    assert "Вернуть платёж" not in page.words
    answer = person.post(f"/payments/{wanted}/cancel", REASON | {"csrf": page.hidden("csrf")})
    assert answer.status == 403
    assert site.one("SELECT state FROM payments WHERE id = %s", wanted) == "posted"


@pytest.mark.parametrize("state", list(State))
def test_the_button_stands_where_the_gateway_lets_a_person_cancel_and_nowhere_else(database, state):
    """Asked of the gateway's own decision, so that the page cannot promise what it refuses."""
    from dataclasses import replace
    from datetime import UTC, datetime

    import aiopg

    from gateway.payments.decide import decide
    from gateway.payments.records import AccountRow, Command, LoadedState, OperatorCancel, Payment, Sides

    async def terms():
        async with aiopg.connect(database.dsn) as connection, connection.cursor() as cur:
            return (await seed.open_shop(cur, datetime.now(UTC)))["osmp"]

    osmp, now = asyncio.run(terms()), datetime.now(UTC)
    payment = Payment(7, osmp.contract.partner_id, "1", 1, "", "79161234567", 5, 100, "RUB", None, None,
                      State.HELD, Reason.OK, 2, now, now)  # fmt: skip
    account = AccountRow(5, "79161234567", "active", "", 1000, "RUB")
    held = replace(payment, state=state)
    world = LoadedState(now, iter([1]).__next__, {account.number: account}, {(held.partner_id, "1"): held},
                  {7: Sides(osmp.clearing_account_id, osmp.transit_account_id)})  # fmt: skip
    result = decide(world, Command(OperatorCancel(7, "a reason"), None, "user:oleg"))
    assert (result.reason is Reason.OK) == (state in CANCELLABLE)


def test_every_result_of_a_cancel_has_its_message():
    told = {reason: cancel_message(Result(None, reason), State.POSTED) for reason in Reason}
    assert told[Reason.OK] == ("The payment is reversed.", "good")
    assert cancel_message(Result(None, Reason.OK), State.HELD) == ("The payment is voided.", "good")
    assert told[Reason.ALREADY_CANCELLED][0].startswith("The payment had been reversed before")
    assert told[Reason.TEMPORARY] == told[Reason.IN_PROGRESS]
    assert told[Reason.TEMPORARY][0].startswith("There is no answer yet")
    assert {tone for _, tone in told.values()} == {"good", "info", "warn", "bad"}
