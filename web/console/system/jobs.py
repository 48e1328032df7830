"""Background jobs: the list, a job with its progress, log, objects and files; begin one again, cancel it.

Rules. The list and the jobs of others are for those who may see jobs; a person always sees, cancels and gets the files
of the jobs it asked for. Files of others hold what their reader may not see, so they need the right to manage jobs, and
so does beginning a job again. A page of a job that is not over brings itself up to date. What people do is on the audit
record, and a file's reading too, in the transaction of the deed.

Does not know: how jobs are done, how a kind's figures come about.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote, urlencode

from billing.language import N_, Language
from billing.work.jobs import by_people
from billing.work.jobs.details_store import (
    files_of,
    find_file,
    log_of,
    newest_log,
    read_part,
    row_counts,
    rows_of,
)
from billing.work.jobs.records import Job, JobError, JobState, LogLine
from billing.work.jobs.store import count_jobs, find_job, known_kinds, list_jobs
from billing.work.jobs.words import ATTENTION, DOING, EVENTS, FAILURES, FIGURES, OUTCOMES, STATES, title_of
from web.access.rights import Open, Right
from web.site.page import Page, Refused
from web.site.site import SNAPSHOT

JOBS_SHOWN: Final = 50
ROWS_SHOWN: Final = 100
LINES_SHOWN: Final = 50
#: Seconds after which the page of a job that is not over looks again: by htmx, and where no script runs.
POLL_S: Final = 2
RELOAD_S: Final = 10
#: Due jobs that wait longer while none runs: nobody does them.
_NOBODY_AFTER_S: Final = 60
#: Of arguments and results: long texts, and codes that the page tells otherwise.
_NOT_SHOWN: Final = ("attention", "format_text", "kind", "state")
_NO_JOB: Final = N_("There is no such job")


class JobsPage(Page):
    """GET /jobs."""

    needs = Right.JOBS_VIEW
    section = "jobs"

    async def get(self) -> None:
        """Jobs of all kinds, newest first."""
        states = [state for state in JobState if state.value in self.get_query_arguments("state")]
        kind, asked_by = self.get_query_argument("kind", "")[:60], self.get_query_argument("by", "")[:200]
        actor = asked_by if ":" in asked_by or not asked_by else f"user:{asked_by}"
        before = self.get_query_argument("before", "")
        after_id = int(before) if before.isascii() and before.isdecimal() and len(before) < 19 else None
        if "\0" in kind + asked_by:
            raise Refused(404, _NO_JOB)
        async with self.site.cursor() as cur:
            jobs = await list_jobs(cur, states=states, kind=kind, asked_by=actor, before=after_id, limit=JOBS_SHOWN + 1)
            kinds, counts = await known_kinds(cur), await count_jobs(cur)
        query = [*(("state", state.value) for state in states), ("kind", kind), ("by", asked_by)]
        query = [(name, value) for name, value in query if value]
        more = [("before", str(jobs[JOBS_SHOWN - 1].id))] if len(jobs) > JOBS_SHOWN else []
        language = self.spoken
        await self.show(
            "jobs.html",
            rows=[(job, shown_job(language, job, self.now)) for job in jobs[:JOBS_SHOWN]],
            chosen_states=[state.value for state in states],
            states=[(state.value, language.gettext(STATES[state])) for state in JobState],
            kinds=[("", self._("All")), *((name, language.gettext(title_of(name))) for name in kinds)],
            kind=kind,
            asked_by=asked_by,
            is_filtered=bool(query),
            first=f"/jobs?{urlencode(query)}" if after_id is not None else "",
            next=f"/jobs?{urlencode([*query, *more])}" if more else "",
            here_path=f"/jobs?{urlencode(query)}",
            is_live=after_id is None and any(not job.state.is_over for job in jobs),
            waiting_s=counts.oldest_age_s,
            is_nobody_there=bool(counts.due and not counts.running and counts.oldest_age_s > _NOBODY_AFTER_S),
            waiting_for=self.formats.duration(int(counts.oldest_age_s)),
            poll_s=POLL_S,
        )


class JobPage(Page):
    """GET /jobs/ID; POST /jobs/ID cancels it or begins it again."""

    needs = Open.TO_SIGNED_IN
    section = "jobs"

    async def get(self, number: str) -> None:
        """The job as it stands."""
        outcome = self.get_query_argument("rows", "")
        outcome = outcome if outcome in OUTCOMES else ""
        after = self.get_query_argument("after", "")
        after_no = int(after) if after.isascii() and after.isdecimal() and len(after) < 19 else 0
        whole_log = self.get_query_argument("log", "") == "all"
        async with self.site.transaction(SNAPSHOT) as cur:
            job = await seen_job(self, cur, number)
            files, counts = await files_of(cur, job.id), await row_counts(cur, job.id)
            rows = await rows_of(cur, job.id, outcome=outcome, after=after_no, limit=ROWS_SHOWN + 1) if counts else []
            lines = await (log_of(cur, job.id) if whole_log else newest_log(cur, job.id, LINES_SHOWN + 1))
        language = self.spoken
        is_mine = job.asked_by == self.user.actor
        shown = lines if whole_log else lines[-LINES_SHOWN:]
        more = {"rows": outcome, "after": str(rows[ROWS_SHOWN - 1].no)} if len(rows) > ROWS_SHOWN else {}
        tabs = [("", self._("All"), sum(counts.values()))]
        tabs += [(code, language.gettext(text), counts.get(code, 0)) for code, text in OUTCOMES.items()]
        await self.show(
            "job.html",
            job=job,
            told=shown_job(language, job, self.now),
            asked=figures(language, job.arguments),
            figures=figures(language, job.result or {}),
            attention=attention_words(language, job),
            failure=language.gettext(FAILURES[job.failure]) if job.failure else "",
            files=[(file, self.formats.size(file.size_bytes)) for file in files],
            may_read=is_mine or self.may(Right.JOBS_MANAGE),
            may_cancel=job.can_be_cancelled and (is_mine or self.may(Right.JOBS_MANAGE)),
            may_retry=job.can_be_retried and self.may(Right.JOBS_MANAGE),
            tabs=[
                (f"/jobs/{job.id}?{urlencode({'rows': code})}" if code else f"/jobs/{job.id}", text, code == outcome, n)
                for code, text, n in tabs
                if n or not code
            ],
            rows=[(row, language.gettext(OUTCOMES[row.outcome])) for row in rows[:ROWS_SHOWN]],
            first_rows=f"/jobs/{job.id}?{urlencode({'rows': outcome})}" if after_no else "",
            next_rows=f"/jobs/{job.id}?{urlencode({k: v for k, v in more.items() if v})}" if more else "",
            lines=[(line, line_words(language, line)) for line in shown],
            has_more_lines=len(lines) > len(shown),
            poll_s=POLL_S,
            reload_s=RELOAD_S,
            here_path=self.request.uri,
        )

    async def post(self, number: str) -> None:
        """Cancel, or begin again."""
        what = self.get_body_argument("do", "")
        if what not in ("cancel", "retry"):
            raise Refused(400, N_("This page knows no such action"))
        try:
            async with self.site.transaction() as cur:
                job = await seen_job(self, cur, number)
                if what == "retry" or job.asked_by != self.user.actor:
                    await self.demand(Right.JOBS_MANAGE)
                change = by_people.cancel if what == "cancel" else by_people.begin_again
                job = await change(cur, job.id, self.user.actor)
                action = "job_cancelled" if what == "cancel" else "job_retried"
                await self.record(action, "job", str(job.id), cur, kind=job.kind)
        except JobError:  # another person, or its end, came first: the page shows how it stands now
            await self.notify(N_("The job stands otherwise by now: nothing was changed."))
        else:
            await self.notify(_NOTICES[what, job.state], number=str(job.id))
        self.redirect(f"/jobs/{number}", status=303)


_NOTICES: Final[Mapping[tuple[str, JobState], str]] = {
    ("cancel", JobState.CANCELLED): N_("Job %(number)s is cancelled."),
    ("cancel", JobState.RUNNING): N_("Job %(number)s is asked to stop. It stops where nothing is left half done."),
    ("retry", JobState.QUEUED): N_("Job %(number)s is queued again."),
}


class JobFilePage(Page):
    """GET /jobs/ID/files/FILE: its content."""

    needs = Open.TO_SIGNED_IN

    async def get(self, number: str, file_number: str) -> None:
        """The file, part by part."""
        async with self.site.cursor() as cur:
            job = await seen_job(self, cur, number)
            if job.asked_by != self.user.actor:
                await self.demand(Right.JOBS_MANAGE)
            file = await find_file(cur, job.id, int(file_number))
            if file is None:
                raise Refused(404, N_("The job has no such file"))
            if file.dropped_at is not None:
                raise Refused(410, N_("The file was deleted because of its age"))
            await self.record("job_file_read", "job", str(job.id), cur, name=file.name)
        self.set_header("Content-Type", file.media_type)
        self.set_header("Content-Length", str(file.size_bytes))
        self.set_header("Content-Disposition", f"attachment; filename*=UTF-8''{quote(file.name)}")
        no = 0
        while True:
            async with self.site.cursor() as cur:  # a slow reader holds no connection
                part = await read_part(cur, file.id, no)
            if part is None:
                break
            self.write(part)
            await self.flush()
            no += 1
        self.finish()


async def seen_job(page: Page, cur: Any, number: str) -> Job:
    """The job, for who asked for it or may see jobs.

    Raises:
        HTTPError: 404, there is none; 403.
    """
    job = await find_job(cur, int(number))
    if job is None:
        if not page.may(Right.JOBS_VIEW):  # a stranger does not learn which numbers there are
            await page.demand(Right.JOBS_VIEW)
        raise Refused(404, _NO_JOB)
    if job.asked_by != page.user.actor:
        await page.demand(Right.JOBS_VIEW)
    return job


# -- in words --------------------------------------------------------------------------------------------------------


def shown_job(language: Language, job: Job, now: datetime) -> dict[str, Any]:
    """What pages say of a job: title, state, who asked, how far it is and how long it took."""
    kind, _, name = job.asked_by.partition(":")
    started, ended = job.started_at, job.finished_at or (now if job.state is JobState.RUNNING else None)
    took_s = max(0, int((ended - started).total_seconds())) if started and ended else None
    state = language.gettext(STATES[job.state])
    if job.state is JobState.RUNNING and job.cancel_at is not None:
        state = language.pgettext("job", "Stopping")
    return {
        "title": language.gettext(title_of(job.kind)),
        "state": state,
        "asked_by": name if kind == "user" else language.gettext("System: %(name)s", name=name or kind),
        "progress": progress_words(language, job),
        "took": "" if took_s is None else _took(language, took_s),
        "note": job.message or attention_words(language, job),
    }


def _took(language: Language, seconds: int) -> str:
    return language.formats.duration(seconds) if seconds else language.gettext("under 1 s")


def progress_words(language: Language, job: Job) -> str:
    """How far a job is; empty where it told nothing."""
    if not (job.done or job.total):
        return ""
    done = language.formats.count(job.done)
    doing = language.gettext(DOING[job.doing]) if job.doing in DOING else job.doing
    if job.total is None:
        return f"{done} {doing}".rstrip()
    share = language.gettext("%(done)s of %(total)s", done=done, total=language.formats.count(job.total))
    return f"{share} {doing}".rstrip()


def attention_words(language: Language, job: Job) -> str:
    """What of a result somebody should look at; empty where nothing."""
    result = job.result or {}
    code = str(result.get("attention", ""))
    if code not in ATTENTION:
        return code
    return language.gettext(ATTENTION[code], **{name: _value(language, name, value) for name, value in result.items()})


def line_words(language: Language, line: LogLine) -> str:
    """A line of the log; what the machinery did in the reader's language, the work's own words as they are."""
    if not line.event:
        return line.line
    return language.gettext(EVENTS[line.event], detail=line.line).removesuffix(": ")


def figures(language: Language, values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(name, value) of arguments or of a result, as far as people read them."""
    told = []
    for name, value in values.items():
        if value in (None, "", [], {}) or name in _NOT_SHOWN:
            continue
        told.append((language.gettext(FIGURES.get(name, name)), _value(language, name, value)))
    return told


def _value(language: Language, name: str, value: Any) -> str:
    if isinstance(value, bool):
        return language.gettext("yes") if value else language.gettext("no")
    if name == "money" and isinstance(value, list):
        sums = (language.formats.money(row["total_minor"], row["currency"]) for row in value)
        return ", ".join(sums)
    if isinstance(value, int):
        return language.formats.count(value) if name not in ("run", "import", "same_as") else str(value)
    text = value if isinstance(value, str) else str(value)
    return text if len(text) <= 200 else f"{text[:197]}..."
