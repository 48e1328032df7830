"""``kopeck settings``: every setting, its value and its meaning.

Does not know: what a setting does.
"""

import click

from kopeck.cli.context import Context, pass_context, show_table
from kopeck.settings import documented_settings, effective_settings


@click.command()
@click.option("--markdown", is_flag=True, help="The table of docs/operators.md instead, with the defaults.")
@pass_context
def settings(context: Context, markdown: bool) -> None:
    """Show every setting with its present value."""
    if markdown:
        click.echo("| setting | environment | default | meaning |\n| --- | --- | --- | --- |")
        for doc in documented_settings():
            click.echo(f"| `{doc.name}` | `{doc.environment}` | {doc.default} | {doc.meaning} |")
        return
    show_table(("setting", "value", "meaning"), [tuple(row) for row in effective_settings(context.settings)])
