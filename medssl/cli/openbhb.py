"""Commands around the OpenBHB challenge."""

from __future__ import annotations

import typer

from medssl.cli.submission import check, export

app = typer.Typer(
    help="The OpenBHB challenge (brain age with site-effect removal): submissions that its server accepts.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.command()(export)
app.command()(check)
