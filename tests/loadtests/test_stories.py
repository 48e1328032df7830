"""The deck holds what it promises, and nonsense is nonsense to the protocols' own decoders."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from adapters.messages import DecodeError, Keys, Pay, RawRequest, Reason
from adapters.protocols import PROTOCOLS
from loadtests.partners import (
    Line,
    Meaning,
    build_query,
    cyberplat_partner,
    open_line,
    osmp_partner,
    public_pem,
    read_reply,
    sign_again,
    spoil_signature,
)
from loadtests.stories import PER_THOUSAND, SPOILT, deal
from ratingcore.money import Minor

OSMP = osmp_partner("o", "secret")
CYBERPLAT = cyberplat_partner("c", "sha256")
LINES = {"osmp": open_line(OSMP), "cyberplat": open_line(CYBERPLAT)}
ACCOUNTS = [str(79160000000 + index) for index in range(100)]
NOW = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)


def test_each_kind_of_fault_comes_at_least_500_times_in_100_000_payments() -> None:
    counts = Counter(story.kind for story in deal(100_000, list(LINES.values()), ACCOUNTS, 1))
    assert counts.total() == 100_000
    assert all(counts[kind] >= 500 for kind in PER_THOUSAND)
    assert counts["plain"] > 50_000


def test_even_a_short_deck_holds_every_kind() -> None:
    assert {story.kind for story in deal(100, list(LINES.values()), ACCOUNTS, 1)} == {*PER_THOUSAND, "plain"}


def test_a_deck_is_the_same_for_a_seed_and_another_for_another() -> None:
    lines = list(LINES.values())
    assert deal(200, lines, ACCOUNTS, 7) == deal(200, lines, ACCOUNTS, 7)
    assert deal(200, lines, ACCOUNTS, 7) != deal(200, lines, ACCOUNTS, 8)


def test_no_two_stories_share_a_key_or_pay_the_other_account() -> None:
    deck = deal(2_000, list(LINES.values()), ACCOUNTS, 1)
    keys = [(story.line.code, key) for story in deck for key in story.keys]
    assert len(keys) == len(set(keys))
    assert all(story.account != story.other_account for story in deck)


def _server_side(line: Line) -> Keys:
    """The keys the provider holds for the partner."""
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    if line.contract.protocol == "osmp":
        from adapters.osmp import basic_key

        return Keys(basic=(basic_key(OSMP.code, OSMP.password),))
    return Keys(verify=(load_pem_public_key(public_pem(CYBERPLAT.private_pem).encode()),))


def _decoded(line: Line, query: bytes, headers: bytes) -> object:
    _, _, authorization = headers.partition(b"Authorization: ")
    fields = {"authorization": authorization.strip().decode()} if authorization else {}
    raw = RawRequest("GET", f"/pay/{line.code}", query, headers=fields, remote_ip="127.0.0.1")
    return PROTOCOLS[line.contract.protocol].decode(raw, line.contract, _server_side(line), NOW)


def _pay(line: Line) -> Pay:
    service = "1" if line.contract.protocol == "cyberplat" else ""
    return Pay("100000000000042", "79160000001", Minor(25_075), service, NOW)


@pytest.mark.parametrize("protocol", LINES)
def test_a_good_request_is_decoded_to_what_was_meant(protocol: str) -> None:
    line = LINES[protocol]
    assert _decoded(line, build_query(line, _pay(line)), line.headers) == _pay(line)


@pytest.mark.parametrize("protocol", LINES)
def test_a_strangers_request_is_denied_for_its_signature(protocol: str) -> None:
    line = LINES[protocol]
    refused = _decoded(line, spoil_signature(build_query(line, _pay(line))), line.forged)
    assert isinstance(refused, DecodeError)
    assert refused.reason is Reason.BAD_SIGNATURE


@pytest.mark.parametrize("protocol", LINES)
@pytest.mark.parametrize("number", range(len(SPOILT)))
def test_every_piece_of_nonsense_is_well_signed_and_still_refused(protocol: str, number: int) -> None:
    line = LINES[protocol]
    good = build_query(replace(line, keys=Keys()), _pay(line))
    refused = _decoded(line, sign_again(line, SPOILT[number](good)), line.headers)
    assert isinstance(refused, DecodeError)
    assert refused.reason is not Reason.BAD_SIGNATURE


@pytest.mark.parametrize(
    ("status", "body", "meaning"),
    [
        (200, b"<response><result>0</result><prv_txn>5</prv_txn><sum>1.00</sum></response>", Meaning.DONE),
        (200, b"<response><result>90</result></response>", Meaning.LATER),
        (200, b"<response><result>215</result></response>", Meaning.CONFLICT),
        (200, b"<response><result>300</result></response>", Meaning.CANCELLED),
        (200, b"<response><result>5</result></response>", Meaning.REFUSED),
        (200, b"<response><result>5", Meaning.SILENCE),
        (200, b"", Meaning.SILENCE),
        (401, b"401 Unauthorized", Meaning.DENIED),
        (503, b"not ready", Meaning.SILENCE),
    ],
)
def test_an_osmp_answer_to_pay_means_what_the_protocol_says(status: int, body: bytes, meaning: Meaning) -> None:
    assert read_reply(LINES["osmp"], "pay", status, body).meaning is meaning


def test_a_cyberplat_answer_that_is_not_signed_is_no_answer() -> None:
    body = b'<?xml version="1.0" encoding="windows-1251"?><response><code>0</code></response>'
    assert read_reply(LINES["cyberplat"], "pay", 200, body).meaning is Meaning.SILENCE
