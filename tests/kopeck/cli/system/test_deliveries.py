"""``kopeck delivery``, ``kopeck webhook`` and ``kopeck mail`` as an operator types them."""

import json

import pytest

PASSPHRASE = "a passphrase of tests"


@pytest.fixture(autouse=True)
def sealed(monkeypatch):
    monkeypatch.setenv("KOPECK_GATEWAY__KEY_PASSPHRASE", PASSPHRASE)


@pytest.fixture
def endpoint(kopeck):
    said = kopeck("webhook", "add", "crm", "https://crm.example.org/hooks", "--type", "kopeck.payment.*")
    assert said.status == 0
    assert said.out.startswith("whsec_")
    return said.out.strip()


@pytest.fixture
def queued(kopeck, endpoint):
    assert kopeck("webhook", "test", "crm").status == 0
    return json.loads(kopeck("delivery", "list", "--json").out)[0]["id"]


def test_endpoints_are_added_listed_rotated_disabled_and_enabled(kopeck, endpoint):
    assert "https://crm.example.org/hooks\tkopeck.payment.*\tenabled\t1" in kopeck("webhook", "list").out
    rotated = kopeck("webhook", "rotate", "crm", "--hours", "1")
    assert rotated.out.startswith("whsec_")
    assert rotated.out.strip() != endpoint
    assert "\tenabled\t2" in kopeck("webhook", "list").out
    assert kopeck("webhook", "disable", "crm").status == 0
    assert "\tdisabled\t" in kopeck("webhook", "list").out
    assert kopeck("webhook", "enable", "crm").status == 0
    assert json.loads(kopeck("webhook", "list", "--json").out)[0]["is_enabled"] is True


def test_a_secret_may_be_brought_and_is_never_printed(kopeck):
    secret = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
    said = kopeck("webhook", "add", "crm", "https://crm.example.org/", "--secret-file", "-", stdin=secret + "\n")
    assert (said.status, said.out) == (0, "")
    assert secret not in said.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("webhook", "add", "crm", "http://crm.example.org/"), "must be https"),
        (("webhook", "add", "CRM", "https://crm.example.org/"), "a name is"),
        (("webhook", "add", "crm", "https://crm.example.org/", "--type", "kopeck.refund.*"), "no event has a type"),
        (("webhook", "add", "crm", "https://crm.example.org/", "--secret-file", "-"), "whsec_"),
        (("webhook", "test", "nobody"), "no endpoint 'nobody'"),
        (("webhook", "rotate", "nobody"), "no endpoint 'nobody'"),
        (("mail", "test", "ann@example.org"), "deliveries.smtp_host"),
        (("delivery", "show", "7"), "no delivery 7"),
        (("delivery", "push", "7"), "no delivery 7"),
        (("delivery", "resend"), "name deliveries by their ids"),
        (("delivery", "resend", "--kind", "webhook"), "--recipient and --state together"),
        (("delivery", "hold", "webhook", "nobody", "--why", "x"), "no queue 'webhook nobody'"),
        (("delivery", "policy", "telegram"), "no kind 'telegram'"),
        (("delivery", "policy", "webhook", "concurrency=0"), "concurrency"),
        (("delivery", "policy", "webhook", "speed=7"), "speed"),
        (("delivery", "policy", "webhook", "waits_s"), "not FIELD=VALUE"),
        (("delivery", "forget", "--before", "2999-01-01"), "30 days"),
        (("delivery", "list", "--state", "lost"), "lost"),
    ],
)
def test_what_is_wrong_is_said_and_changes_nothing(kopeck, arguments, words):
    said = kopeck(*arguments)
    assert said.status == 2
    assert words in said.err
    assert kopeck("webhook", "list").out.count("\n") == 1


def test_secrets_are_not_stored_open_beside_a_real_database(kopeck, monkeypatch):
    monkeypatch.setenv("KOPECK_GATEWAY__KEY_PASSPHRASE", "")
    said = kopeck("webhook", "add", "crm", "https://crm.example.org/")
    assert (said.status, "gateway.key_passphrase" in said.err) == (2, True)


def test_an_endpoint_is_not_added_twice(kopeck, endpoint):
    said = kopeck("webhook", "add", "crm", "https://other.example.org/")
    assert (said.status, "already" in said.err) == (2, True)


def test_a_delivery_is_listed_shown_pushed_given_up_and_sent_again(kopeck, queued):
    number = str(queued)
    assert (
        f"{number}\twebhook\tcrm\t-\tkopeck.webhook.test.v1 endpoint/crm\twaiting\t0\t"
        in kopeck("delivery", "list").out
    )
    assert kopeck("delivery", "list", "--state", "refused").out.count("\n") == 1
    assert json.loads(kopeck("delivery", "show", number, "--payload").out)["type"] == "kopeck.webhook.test.v1"
    assert kopeck("delivery", "push", number).out == f"delivery {number} is tried now\n"
    assert kopeck("delivery", "give-up", number, "--why", "only a test").status == 0
    shown = kopeck("delivery", "show", number).out
    assert "state abandoned" in shown
    assert "only a test" in shown
    refused = kopeck("delivery", "push", number)
    assert (refused.status, "only one that waits can be pushed" in refused.err) == (2, True)
    assert kopeck("delivery", "resend", number).out == f"delivery {number} is sent again\n"
    assert json.loads(kopeck("delivery", "show", number, "--json").out)["row"]["state"] == "waiting"


def test_a_queue_is_sent_again_after_it_was_counted(kopeck, queued):
    kopeck("delivery", "give-up", str(queued))
    names = ("--kind", "webhook", "--recipient", "crm", "--state", "abandoned")
    assert kopeck("delivery", "resend", *names).out == "1 deliveries; say --yes to send them again\n"
    assert kopeck("delivery", "resend", *names, "--yes").out == "1 deliveries are sent again\n"
    assert "waiting" in kopeck("delivery", "list").out


def test_a_queue_is_held_and_let_go(kopeck, queued):
    assert kopeck("delivery", "hold", "webhook", "crm", "--why", "maintenance").out == "queue webhook crm is held\n"
    assert ": maintenance" in kopeck("delivery", "queues").out
    assert kopeck("delivery", "release", "webhook").out == "queue webhook crm goes on\n"
    assert kopeck("delivery", "queues").out.splitlines()[1].endswith("\t-")
    assert json.loads(kopeck("delivery", "queues", "--json").out)[0]["waiting"] == 1


def test_a_policy_is_set_for_a_kind_and_one_recipient(kopeck):
    assert json.loads(kopeck("delivery", "policy", "webhook").out)["concurrency"] == 8
    assert kopeck("delivery", "policy", "webhook", "per_minute=120", "waits_s=[5,10]").status == 0
    said = kopeck("delivery", "policy", "webhook", "--recipient", "crm", "concurrency=2")
    found = json.loads(said.out)
    assert (found["concurrency"], found["per_minute"], found["waits_s"]) == (2, 120, [5, 10])
    back = json.loads(kopeck("delivery", "policy", "webhook", "--unset", "per_minute", "--unset", "waits_s").out)
    assert (back["per_minute"], back["waits_s"][:2]) == (None, [5, 300])


def test_a_test_letter_is_queued(kopeck, monkeypatch):
    monkeypatch.setenv("KOPECK_DELIVERIES__SMTP_HOST", "mail.example.org")
    monkeypatch.setenv("KOPECK_DELIVERIES__MAIL_FROM", "Kopeck <billing@example.org>")
    assert kopeck("mail", "test", "ann@example.org").status == 0
    row = json.loads(kopeck("delivery", "list", "--find", "ann@example.org", "--json").out)[0]
    assert (row["kind"], row["recipient"], row["state"]) == ("mail", "smtp", "waiting")
    said = kopeck("mail", "test", "ann")
    assert (said.status, "no mail address" in said.err) == (2, True)


def test_what_people_do_is_on_record(kopeck, queued, database):
    import psycopg2

    kopeck("delivery", "hold", "webhook", "crm", "--why", "maintenance")
    with psycopg2.connect(database.dsn) as connection, connection.cursor() as cur:
        cur.execute("SELECT action FROM audit ORDER BY id")
        assert [row[0] for row in cur.fetchall()] == ["webhook_added", "webhook_tested", "delivery_queue_held"]


def test_old_deliveries_are_forgotten(kopeck, queued):
    assert kopeck("delivery", "forget").out == "0 deliveries are deleted\n"
