"""Sessions and the audit record in the real database."""

import asyncio
from datetime import UTC, datetime, timedelta

import aiopg
import psycopg2
import pytest

from web.access import audit
from web.access.audit import AuditFilter
from web.access.rights import EVERYTHING, Right
from web.access.sessions import (
    MAX_SESSIONS_PER_USER,
    begin_session,
    clear_notice,
    end_session,
    end_sessions_of,
    hash_of,
    read_session,
    set_notice,
)
from web.access.users import add_user, set_roles, set_state

BY = {"by": EVERYTHING, "actor": "system:test"}


def run(database, story):
    async def told():
        async with aiopg.connect(database.dsn) as connection, connection.cursor() as cur:
            await add_user(cur, "anna", "correct horse 42", "administrator", **BY)
            user = await add_user(cur, "oleg", "correct horse 42", "operator", **BY)
            return await story(cur, user)

    return asyncio.run(told())


def test_a_session_is_found_by_its_token_and_the_table_keeps_only_the_hash(database):
    async def story(cur, user):
        token, begun = await begin_session(cur, user, 12)
        found = await read_session(cur, token, 60)
        assert found == begun
        assert await read_session(cur, token[:-1], 60) is None
        await cur.execute("SELECT token_hash FROM sessions")
        assert [bytes(row[0]) for row in await cur.fetchall()] == [hash_of(token)]

    run(database, story)


def test_a_session_ends_by_time_by_idleness_by_sign_out_and_with_its_user(database):
    async def story(cur, user):
        for change in (
            "UPDATE sessions SET expires_at = now() + interval '1 microsecond'",
            "UPDATE sessions SET seen_at = now() - interval '61 minutes'",
        ):
            token, _ = await begin_session(cur, user, 12)
            async with aiopg.connect(database.owner_dsn) as owner, owner.cursor() as other:
                await other.execute(change)
            assert await read_session(cur, token, 60) is None
        token, session = await begin_session(cur, user, 12)
        await end_session(cur, session)
        assert await read_session(cur, token, 60) is None
        token, _ = await begin_session(cur, user, 12)
        await end_sessions_of(cur, user.id)
        assert await read_session(cur, token, 60) is None
        token, _ = await begin_session(cur, user, 12)
        await set_state(cur, "oleg", "disabled", by=EVERYTHING)
        assert await read_session(cur, token, 60) is None

    run(database, story)


def test_a_changed_role_acts_on_sessions_that_are_open(database):
    async def story(cur, user):
        token, _ = await begin_session(cur, user, 12)
        assert (await read_session(cur, token, 60)).user.access.may(Right.PAYMENTS_CANCEL)
        await set_roles(cur, "oleg", ["viewer"], **BY)
        assert not (await read_session(cur, token, 60)).user.access.may(Right.PAYMENTS_CANCEL)

    run(database, story)


def test_an_idle_clock_is_wound_by_use(database):
    async def story(cur, user):
        token, _ = await begin_session(cur, user, 12)
        await cur.execute("UPDATE sessions SET seen_at = now() - interval '59 minutes'")
        assert await read_session(cur, token, 60) is not None
        await cur.execute("SELECT seen_at > now() - interval '5 seconds' FROM sessions")
        assert await cur.fetchall() == [(True,)]

    run(database, story)


def test_a_user_has_a_limited_number_of_sessions_and_the_oldest_goes(database):
    async def story(cur, user):
        tokens = [(await begin_session(cur, user, 12))[0] for _ in range(MAX_SESSIONS_PER_USER + 2)]
        live = [await read_session(cur, token, 60) is not None for token in tokens]
        assert live == [False] * 2 + [True] * MAX_SESSIONS_PER_USER

    run(database, story)


def test_a_notice_is_kept_until_it_is_cleared(database):
    async def story(cur, user):
        token, session = await begin_session(cur, user, 12)
        await set_notice(cur, session, "The payment is reversed.", {"id": "7"})
        assert (await read_session(cur, token, 60)).notice == ("The payment is reversed.", {"id": "7"})
        await clear_notice(cur, session)
        assert (await read_session(cur, token, 60)).notice is None

    run(database, story)


@pytest.mark.parametrize("statement", ["UPDATE audit SET actor = 'x'", "DELETE FROM audit", "TRUNCATE audit"])
def test_neither_the_program_nor_the_owner_changes_the_audit_record(database, statement):
    async def story(cur, user):
        await audit.record(cur, user.actor, "signed_in", "192.0.2.1")
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            await cur.execute(statement)
        async with aiopg.connect(database.owner_dsn) as owner, owner.cursor() as other:
            with pytest.raises(psycopg2.errors.RaiseException, match="append-only"):
                await other.execute(statement)

    run(database, story)


def test_the_audit_record_is_listed_newest_first_by_actor_object_and_action(database):
    now = datetime.now(UTC)
    always = {"start": now - timedelta(days=1), "end": now + timedelta(days=1)}

    async def story(cur, user):
        for number in range(5):
            await audit.record(cur, user.actor, "payment_viewed", "192.0.2.1", "payment", str(number), note="x")
        await audit.record(cur, "user:anna", "signed_in", "192.0.2.2")

        async def found(before=None, limit=10, **wanted):
            entries = await audit.list_entries(cur, AuditFilter(**always, **wanted), before, limit)
            return [entry.object_id for entry in entries]

        assert await found() == ["", "4", "3", "2", "1", "0"]
        assert await found(text="oleg") == ["4", "3", "2", "1", "0"]
        assert await found(text="user:anna") == [""]
        assert await found(text="3") == ["3"]
        assert await found(actions=("signed_in",)) == [""]
        first = await audit.list_entries(cur, AuditFilter(**always), None, 2)
        assert await found(before=first[-1].id) == ["3", "2", "1", "0"]
        assert first[1].detail == {"note": "x"}
        past = AuditFilter(now - timedelta(days=9), now - timedelta(days=8))
        assert await audit.list_entries(cur, past, None, 10) == []

    run(database, story)


def test_an_action_that_has_no_words_is_not_recorded(database):
    async def story(cur, user):
        with pytest.raises(ValueError, match="not an action"):
            await audit.record(cur, user.actor, "did_something", "")

    run(database, story)
