"""Pages of background jobs: who sees which, what they tell in both languages, what people do there."""

import re

import pytest

from billing.database.aiopg import connect
from billing.work.jobs.details_store import add_log, add_part, add_rows, begin_file, complete_file
from billing.work.jobs.records import FILE_PART_BYTES, JobState, NewRow, Next, Progress
from billing.work.jobs.store import beat, claim_job, end_attempt, enqueue, find_job


def run(site, work):
    async def main():
        connection = await connect(site.dsn, name="test", statement_timeout_s=60, idle_transaction_s=60)
        async with connection, connection.cursor() as cur:
            return await work(cur)

    return site.call(main())


def queued(site, kind="verify", asked_by="user:anna", **arguments):
    """A job that waits for ever: no worker runs here."""
    return run(site, lambda cur: enqueue(cur, kind, arguments, asked_by=asked_by))


def begun(site, job_id):
    """The same job, as a process that is at it has it."""

    async def work(cur):
        await cur.execute("UPDATE jobs SET due_at = now() - interval '1 year' WHERE id = %s", (job_id,))
        job = await claim_job(cur, f"claim-{job_id}", "host-1:77", ["verify", "bill.run"], (), 30)
        assert job.id == job_id
        await add_log(cur, job_id, ["host-1:77"], event="began")
        await beat(cur, job_id, 1, Progress(1_500, 3_000, "shards"))

    run(site, work)
    return job_id


def ended(site, job_id, state=JobState.DONE, failure="", message="", result=None):
    run(site, lambda cur: end_attempt(cur, job_id, 1, Next(state, failure=failure), message, result))
    return job_id


def state_of(site, job_id):
    return run(site, lambda cur: find_job(cur, job_id)).state


@pytest.fixture
def anna(site):
    return site.person("anna")


def test_the_list_tells_how_jobs_stand_and_is_narrowed(site, anna):
    running = begun(site, queued(site, "bill.run", date="2026-02-01"))
    failed = ended(site, begun(site, queued(site)), JobState.FAILED, "error", "the bank <b>does not</b> answer")
    anna.post("/language", {"language": "en", "next": "/jobs"}, "/jobs")  # another test may have chosen for this user
    words = anna.get("/jobs").words
    anna.post("/language", {"language": "ru", "next": "/jobs"}, "/jobs")
    assert "Billing run № " in words
    assert "1,500 of 3,000 shards" in words
    assert "the bank <b>does not</b> answer" in words
    only = anna.get("/jobs?state=failed").text
    assert f'href="/jobs/{failed}"' in only
    assert f'href="/jobs/{running}"' not in only
    assert f'href="/jobs/{running}"' in anna.get("/jobs?kind=bill.run&by=anna").text
    assert "Таких задач нет" in anna.get("/jobs?by=user%3Anobody").words
    assert anna.get(f"/jobs?before={running}").status == 200
    assert f'href="/jobs/{running}"' not in anna.get(f"/jobs?before={running}").text


@pytest.mark.parametrize("query", ["state=nothing", "before=-1", "before=x", "before=9999999999999999999", "kind=%27"])
def test_nonsense_in_the_address_narrows_nothing_or_finds_nothing(anna, query):
    assert anna.get(f"/jobs?{query}").status == 200


def test_a_running_job_tells_its_progress_and_looks_again_by_itself(site, anna):
    job_id = begun(site, queued(site, "bill.run", date="2026-02-01"))
    page = anna.get(f"/jobs/{job_id}")
    assert "Выставление счетов" in page.words
    assert "1 500 из 3 000 частей" in page.words.replace("\xa0", " ")
    assert "Попытка началась на host-1:77" in page.words
    assert re.search(r'hx-trigger="every \d+s"', page.text)
    assert re.search(r'<noscript><meta http-equiv="refresh" content="\d+"></noscript>', page.text)
    ended(site, job_id, result={"run": 7, "invoices": 12, "failures": 2, "attention": "failures",
                                "money": [{"currency": "RUB", "total_minor": 30000}]})  # fmt: skip
    page = anna.get(f"/jobs/{job_id}")
    assert "hx-trigger" not in page.text
    assert "http-equiv" not in page.text
    assert "300,00" in page.words
    assert "Ошибок: 2. kopeck bill status 7" in page.words


def test_rows_and_log_are_shown_page_by_page(site, anna):
    job_id = begun(site, queued(site))

    async def tell(cur):
        rows = [NewRow(f"r-{n}", "refused" if n % 50 == 0 else "done", "closed", f"Имя {n}") for n in range(150)]
        await add_rows(cur, job_id, 1, rows)
        await add_log(cur, job_id, [f"line {n}" for n in range(80)])

    run(site, tell)
    page = anna.get(f"/jobs/{job_id}")
    assert "Имя 0" in page.words
    assert "Имя 149" not in page.words
    following = re.search(rf'href="(/jobs/{job_id}\?after=\d+)"', page.text)[1]
    assert "Имя 149" in anna.get(following).words
    refused = anna.get(f"/jobs/{job_id}?rows=refused").words
    assert "Имя 100" in refused
    assert "Имя 101" not in refused
    assert "line 79" in page.words
    assert "line 3 " not in page.words
    assert "line 3 " in anna.get(f"/jobs/{job_id}?log=all").words


def test_files_are_read_in_parts_by_who_asked_and_who_manages(site, anna):
    job_id = begun(site, queued(site, asked_by="user:vera"))

    async def make(cur):
        file_id = await begin_file(cur, job_id, 1, "счета за май.csv", "text/csv")
        await add_part(cur, file_id, 0, b"a" * FILE_PART_BYTES)
        await add_part(cur, file_id, 1, b"end")
        await complete_file(cur, file_id, 7)
        return file_id

    file_id = run(site, make)
    ended(site, job_id)
    vera, oleg = site.person("vera"), site.person("oleg")  # a viewer asked for it; an operator may see jobs
    answer = vera.get(f"/jobs/{job_id}/files/{file_id}")
    assert (answer.status, answer.body) == (200, b"a" * FILE_PART_BYTES + b"end")
    assert answer.headers["Content-Disposition"].endswith("%D0%BC%D0%B0%D0%B9.csv")
    assert anna.get(f"/jobs/{job_id}/files/{file_id}").status == 200
    assert oleg.get(f"/jobs/{job_id}").status == 200
    assert f"/jobs/{job_id}/files/" not in oleg.get(f"/jobs/{job_id}").text
    assert oleg.get(f"/jobs/{job_id}/files/{file_id}").status == 403
    assert vera.get(f"/jobs/{job_id}/files/999999").status == 404
    run(site, lambda cur: cur.execute("UPDATE job_files SET dropped_at = now() WHERE id = %s", (file_id,)))
    assert vera.get(f"/jobs/{job_id}/files/{file_id}").status == 410
    actions = site.rows("SELECT actor FROM audit WHERE action = 'job_file_read' AND object_id = %s", str(job_id))
    assert {actor for (actor,) in actions} == {"user:vera", "user:anna"}


def test_others_jobs_are_hidden_from_who_may_not_see_jobs(site):
    vera = site.person("vera")
    job_id = queued(site)
    assert vera.get("/jobs").status == 403
    assert vera.get(f"/jobs/{job_id}").status == 403
    assert vera.get("/jobs/999999999").status == 403  # a stranger does not learn which numbers there are
    mine = queued(site, asked_by="user:vera")
    assert vera.get(f"/jobs/{mine}").status == 200
    assert site.person().get(f"/jobs/{mine}").status in (302, 303)
    assert site.person("anna").get("/jobs/999999999").status == 404


def test_people_cancel_their_own_jobs_and_managers_all_and_only_they_begin_again(site, anna):
    vera, oleg = site.person("vera"), site.person("oleg")
    mine = queued(site, asked_by="user:vera")
    assert post(oleg, mine, "cancel").status == 403
    assert state_of(site, mine) == JobState.QUEUED
    assert post(vera, mine, "cancel").location == f"/jobs/{mine}"
    assert state_of(site, mine) == JobState.CANCELLED
    assert "Задача" in vera.get(f"/jobs/{mine}").words
    assert post(vera, mine, "retry").status == 403
    assert post(anna, mine, "retry").status == 303
    assert state_of(site, mine) == JobState.QUEUED
    assert post(anna, mine, "retry").status == 303  # twice: nothing changes, and the page says how it stands
    assert "ничего не изменено" in anna.get(f"/jobs/{mine}").words
    assert post(anna, mine, "explode").status == 400
    running = begun(site, queued(site))
    assert post(anna, running, "cancel").status == 303
    page = anna.get(f"/jobs/{running}").words
    assert "Останавливается" in page
    assert "user:anna просит остановиться" in page


def post(person, job_id, what):
    return person.post(f"/jobs/{job_id}", {"do": what}, "/profile")
