"""``--background`` of long commands: the same work as a job, which some process of the role jobs does.

Does not know: how jobs are done.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import click

from billing.database.cursors import Cursor
from billing.work.jobs import enqueue
from billing.work.jobs.details_store import add_input
from kopeck.cli.context import Context, shown_name
from kopeck.cli.output import show_json
from web.access.actors import Actor
from web.access.rights import Right

BACKGROUND = click.option(
    "--background", is_flag=True, help="Queue it as a job and return; `kopeck job` tells how it goes."
)


def queue_job(
    context: Context,
    right: Right,
    kind: str,
    arguments: Mapping[str, Any],
    file: IO[bytes] | None = None,
    *,
    as_json: bool = False,
) -> None:
    """Queue a job of the person at the terminal, who holds the right, with a file it needs, and say its number."""

    async def work(cur: Cursor, who: Actor) -> int:
        job_id = await enqueue(cur, kind, arguments, asked_by=who.name)
        if file is not None:
            await add_input(cur, job_id, Path(shown_name(file)).name, "application/octet-stream", file)
        return job_id

    job_id = context.act(right, work)
    if as_json:
        show_json({"job": job_id})
        return
    click.echo(f"job {job_id} is queued: `kopeck job show {job_id}` tells how it goes")
