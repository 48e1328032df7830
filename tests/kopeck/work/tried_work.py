"""Work for tests of the worker; a child process imports it by its place."""

import asyncio
import os
import signal
import time
from pathlib import Path

from billing.refusals import Refusal, Unavailable
from billing.work.jobs import details_store as details
from billing.work.jobs.records import NewRow
from billing.work.jobs.rules import JobKind

HERE = "tests.kopeck.work.tried_work"


def kind(function, **more):
    return JobKind(f"{HERE}:{function}", **more)


KINDS = {
    "test.note": kind("note", is_repeatable=True),
    "test.once": kind("note"),
    "test.tell": kind("tell"),
    "test.async": kind("tell_async"),
    "test.refuse": kind("refuse", ladder_s=(0, 0)),
    "test.away": kind("away", ladder_s=(0, 0)),
    "test.mistake": kind("mistake"),
    "test.missing": kind("no_such_function"),
    "test.wait": kind("wait", cancel_grace_s=20),
    "test.wait_again": kind("wait", is_repeatable=True),
    "test.stubborn": kind("stubborn", cancel_grace_s=0.2),
    "test.silent": kind("stubborn", silent_s=4),
    "test.die": kind("die", is_repeatable=True),
    "test.die_once": kind("die"),
    "test.file": kind("file"),
    "test.input": kind("read_input"),
    "test.rows": kind("rows", is_repeatable=True),
    "test.sure_rows": kind("sure_rows", is_repeatable=True),
    "test.saved": kind("saved", is_repeatable=True),
    "test.bad_result": kind("bad_result"),
    "test.memory": kind("memory"),
}


def note(context):
    """Leave a line in a file, so that a test can count."""
    with open(context.arguments["path"], "a") as file:
        file.write(f"{context.job_id} {context.attempt} {os.getpid()}\n")
    time.sleep(context.arguments.get("seconds", 0))


def tell(context):
    context.progress(3, 10, "rows")
    context.log("first\nsecond")
    context.log("nul \0 and half \ud800")
    context.progress(10, 10, "rows")
    return {"rows": 10, "asked_by": context.asked_by}


async def tell_async(context):
    await asyncio.sleep(0)
    return {"attempt": context.attempt}


def refuse(context):
    raise Refusal("there is no partner X")


def away(context):
    if context.attempt <= context.arguments["times"]:
        raise Unavailable("the bank does not answer")
    return {"attempt": context.attempt}


def mistake(context):
    raise ValueError("a mistake of ours")


def wait(context):
    Path(context.arguments["path"]).touch()
    while True:
        context.check_cancelled()
        time.sleep(0.01)


def stubborn(context):
    Path(context.arguments["path"]).write_text(str(os.getpid()))
    time.sleep(60)


def die(context):
    if context.attempt <= context.arguments["times"]:
        os.kill(os.getpid(), signal.SIGKILL)
    return {"attempt": context.attempt}


def file(context):
    with context.file("list.csv", "text/csv") as out:
        for number in range(context.arguments["lines"]):
            out.write(b"%d;some text of a line\n" % number)
            context.progress(number)
    if context.arguments.get("fails"):
        raise Unavailable("the disk is full")


def read_input(context):
    with context.input_file() as given:
        return {"lines": sum(1 for _ in given)}


def rows(context):
    refs = [f"r-{number}" for number in range(context.arguments["rows"])]
    done = context.rows_done(refs)
    for number, ref in enumerate(refs):
        if ref in done:
            continue
        context.row(ref, "done" if number % 2 else "refused", "a reason", f"row {number}")
    return {"rows": len(refs), "before": len(done)}


def sure_rows(context):
    """Notes each object with its row in one transaction; dies at some of them."""
    refs = [f"r-{number}" for number in range(context.arguments["rows"])]
    for number, ref in enumerate(refs):
        if ref in context.rows_done([ref]):
            continue

        async def do(cur, ref=ref):
            await cur.execute("INSERT INTO tried (ref) VALUES (%s)", (ref,))
            assert await details.add_rows(cur, context.job_id, context.attempt, [NewRow(ref, "done")])

        context.in_transaction(do)
        if number == context.arguments["dies_at"] and context.attempt == 1:
            os.kill(os.getpid(), signal.SIGKILL)


def saved(context):
    place = (context.saved or {}).get("place", 0)
    context.save({"place": place + 1})
    if place < 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return {"place": place + 1}


def bad_result(context):
    return {"when": object()}


def memory(context):
    context.kept = bytearray(300 << 20)
    import builtins

    builtins.kept_by_a_test = context.kept
