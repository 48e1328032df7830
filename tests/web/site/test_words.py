"""Words of codes: every code there is has its word, and no word is left without its code."""

import pytest

from adapters.messages import Contract, Op, Reason
from billing.invoicing.invoices import InvoiceState
from billing.language import languages
from billing.work.deliveries.decide import Reason as DeliveryReason
from billing.work.deliveries.records import DeliveryAction, DeliveryState, Verdict
from gateway.payments.states import Effect, Event, State
from kopeck.serve.deliveries import KINDS as KINDS_OF_DELIVERIES
from web.access import audit
from web.access.approval_store import ApprovalState
from web.access.rights import SYSTEM_ROLES
from web.console.partners.partners import KEY_WARNINGS, TERMS
from web.console.payments.attempts import KINDS
from web.console.system.deliveries import ACTS
from web.site import filters
from web.site.words import TABLES, word

CODED = {
    "delivery_kind": [*KINDS_OF_DELIVERIES],
    "delivery_state": [*DeliveryState],
    "delivery_reason": [reason for reason in DeliveryReason if reason],
    "delivery_outcome": ["", *Verdict, "recalled"],
    "delivery_act": [*DeliveryAction, *ACTS],
    "state": [*State],
    "invoice_state": [*InvoiceState],
    "event": [*Event],
    "step": [*Effect, "refund", "move"],
    "op": [*Op],
    "kind": KINDS,
    "reason": [*Reason],
    "token_state": ["active", "expired", "revoked"],
    "approval_state": [*ApprovalState],
    "role": [*SYSTEM_ROLES],
    "role_rights": [*SYSTEM_ROLES],
    "action": audit.ACTIONS,
    "period": filters.PERIODS,
    "partner_state": ["active", "paused"],
    "user_state": ["active", "disabled"],
    "actor": ["partner", "user", "system", "anonymous"],
    "purpose": ["verify", "sign", "basic", "secret"],
}


def test_every_table_is_walked():
    assert set(TABLES) == set(CODED)


@pytest.mark.parametrize(("table", "codes"), CODED.items())
def test_every_code_has_its_word_and_every_word_its_code(table, codes):
    known = [str(getattr(code, "value", code)) for code in codes]
    assert sorted(TABLES[table]) == sorted(known)
    for language in languages():
        assert all(word(language, table, code, name="x") for code in known)


def test_a_code_without_a_word_is_an_error_and_never_an_empty_place():
    with pytest.raises(KeyError):
        word(languages()[0], "state", "lost")


def test_every_term_of_a_contract_has_its_word():
    told_elsewhere = {"partner_id", "partner", "version", "protocol", "active", "dialect"}
    assert set(TERMS) == set(Contract.__dataclass_fields__) - told_elsewhere
    assert set(KEY_WARNINGS) == {"forgeable", "short", "shared"}
