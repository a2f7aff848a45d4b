"""Commands around the OpenBHB challenge."""

from __future__ import annotations

from pathlib import Path

import typer

from medssl.cli.parse import say_text
from medssl.cli.submission import check, export

app = typer.Typer(
    help="The OpenBHB challenge (brain age with site-effect removal): its probes on any cohort, and submissions to it.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.callback()
def _openbhb() -> None:
    pass


@app.command(short_help="Score features exactly as the challenge does.")
def score(
    target: Path = typer.Argument(..., metavar="FEATURES", help="A features table, or a run folder (h and z)."),
    out: Path | None = typer.Option(None, "-o", "--out", help="Folder for openbhb.json and openbhb.md."),
    folds: int | None = typer.Option(None, min=1, help="Make so many folds where the table has none (challenge: 3)."),
    prefix: str | None = typer.Option(None, help="Features are the columns that begin so (default: f0, f1, ...)."),
    resamples: int = typer.Option(2000, min=0, help="Bootstrap resamples."),
    every_site: bool = typer.Option(True, "--leave-site-out/--no-leave-site-out", help="Leave every site out once."),
    references: bool = typer.Option(True, help="Also score voxels and the untrained encoder."),
    quick: bool = typer.Option(False, "--quick", help="First fold only, no intervals, no leave-site-out; says so."),
    seed: int = typer.Option(0, min=0, help="Of the site probe's solver, the bootstrap and --folds."),
    jobs: int | None = typer.Option(None, min=1, help="Threads (default: one per core)."),
    as_json: bool = typer.Option(False, "--json", help="Print openbhb.json instead of a table."),
    quiet: bool = typer.Option(False, "--quiet", help="No progress bars."),
) -> None:
    """Score features exactly as the challenge does: three folds, ridge and saga grids, L_c = BAcc^0.3 * MAE_ext.

    Folds are the columns fold0, fold1, fold2 where the table has them, else --folds, else the split as one fold.

    \b
    Examples:
      medssl openbhb score runs/wide
      medssl openbhb score openbhb/features.csv -o scores/
      medssl openbhb score volumes.csv --prefix vol_ --folds 3
    """
    import json

    from medssl.challenge.openbhb import score_openbhb

    board = score_openbhb(
        target,
        out,
        folds=folds,
        prefix=prefix,
        resamples=resamples,
        every_site=every_site,
        references=references,
        quick=quick,
        seed=seed,
        n_jobs=jobs,
        progress=not quiet,
    )
    say_text(json.dumps(board.to_dict(), indent=2) if as_json else board.markdown())


app.command(short_help="Write the submission of a run.")(export)
app.command(short_help="Do with a submission what the server will do.")(check)
