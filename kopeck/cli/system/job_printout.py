"""A background job in words for the terminal, and as JSON for programs.

Does not know: where jobs come from, where the text goes.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final

from billing.work.jobs.records import Job, JobFile, JobState, LogLine
from billing.work.jobs.words import EVENTS, FAILURES, attention_of, title_of
from kopeck.cli.context import shown_time

_OPEN: Final = (JobState.QUEUED, JobState.RUNNING)


def job_lines(job: Job, files: Iterable[JobFile], counts: Mapping[str, int], lines: Iterable[LogLine]) -> Iterator[str]:
    """Everything of a job, a line each."""
    yield f"job {job.id}: {title_of(job.kind)} ({job.kind}): {state_words(job)}"
    yield f"asked for by {job.asked_by} at {shown_time(job.asked_at)}" + (f", key {job.key}" if job.key else "")
    yield from _course_lines(job)
    if job.message:
        yield f"{'last try' if job.state in _OPEN else 'why'}: {job.message}"
    if job.arguments:
        yield f"asked: {_values(job.arguments)}"
    if job.result:
        yield f"result: {_values({name: value for name, value in job.result.items() if name != 'attention'})}"
        if attention := attention_of(job.result):
            yield f"attention: {attention}"
    if counts:
        told = ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(counts.items()))
        yield f"objects: {told}; `kopeck job show {job.id} --rows all` lists them"
    yield from (_file_line(job, file) for file in files)
    if job.can_be_retried:
        yield f"`kopeck job retry {job.id}` begins it again"
    told_lines = list(lines)
    if told_lines:
        yield f"log (`kopeck job log {job.id}` prints all of it):"
        yield from (f"  {shown_time(line.at)}  {line_words(line)}" for line in told_lines)


def _course_lines(job: Job) -> Iterator[str]:
    """When it is due, where it is or was done, how far it came."""
    if job.state is JobState.QUEUED and job.due_at > datetime.now(UTC):
        yield f"due at {shown_time(job.due_at)}"
    if job.started_at is not None:
        ended = job.finished_at or (job.beat_at if job.state is JobState.RUNNING else None)
        took = f", {span_words((ended - job.started_at).total_seconds())}" if ended else ""
        yield f"attempt {job.attempt} on {job.worker}, began {shown_time(job.started_at)}{took}"
    if job.state is JobState.RUNNING:
        yield f"last sign of life {shown_time(job.beat_at)}"
    if job.cancel_at is not None:
        yield f"{job.cancel_by} asked it to stop at {shown_time(job.cancel_at)}"
    if words := progress_words(job):
        yield f"progress: {words}"


def _file_line(job: Job, file: JobFile) -> str:
    if file.dropped_at is not None:
        kept = f"content deleted {shown_time(file.dropped_at)}"
    else:
        kept = f"kept until {shown_time(file.expires_at)}"
    if file.purpose == "input":
        return f"was given {file.name}, {file.size_bytes:,} bytes, {kept}"
    how = "" if file.dropped_at else f"; `kopeck job file {job.id} {file.id} --output {file.name}` writes it"
    return f"made {file.name}, {file.size_bytes:,} bytes, {kept}{how}"


def state_words(job: Job) -> str:
    """How a job stands, in a few words."""
    if job.state is JobState.QUEUED and job.attempt:
        return "queued again"
    if job.state is JobState.QUEUED and job.due_at > datetime.now(UTC):
        return "queued for later"
    if job.state is JobState.RUNNING and job.cancel_at is not None:
        return "stopping"
    if job.state is JobState.FAILED and job.failure in ("silent", "interrupted"):
        return f"failed ({job.failure})"
    return job.state.value


def progress_words(job: Job) -> str:
    """How far it is; empty where it told nothing."""
    if not (job.done or job.total):
        return ""
    share = "" if job.share is None or job.state is JobState.DONE else f" ({int(100 * job.share)} %)"
    return f"{job.done:,}{f' of {job.total:,}' if job.total is not None else ''} {job.doing}".rstrip() + share


def line_words(line: LogLine) -> str:
    """A line of the log as it is told at the terminal."""
    if not line.event:
        return line.line
    told = EVENTS[line.event] % {"detail": line.line}
    return told.removesuffix(": ")


def note_words(job: Job) -> str:
    """What a list says beside a job: why it failed, what calls for attention."""
    attention = attention_of(job.result)
    if job.state is JobState.FAILED:
        return job.message or FAILURES[job.failure]
    return attention or (job.message if job.state is JobState.QUEUED else "")


def job_json(job: Job) -> dict[str, Any]:
    """A job for programs."""
    told = asdict(job)
    del told["beat"], told["lease_s"]
    return told


def _values(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_value(value)}" for name, value in values.items())


def _value(value: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    text = " ".join(text.split())
    return text if len(text) <= 80 else f"{text[:77]}..."


def span_words(seconds: float) -> str:
    """A span of time."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
