"""The tour: a synthetic cohort from nothing to a scored, reported encoder."""

from __future__ import annotations

from pathlib import Path

import typer

from medssl.cli.parse import say, say_text


def demo(
    folder: Path | None = typer.Argument(None, help="Folder for cohort, run and report; default medssl-demo."),
    out: Path | None = typer.Option(None, "-o", "--out", help="The same folder, as other commands take it."),
    seed: int = typer.Option(0, help="Seed of the cohort and of the training."),
    quick: bool = typer.Option(False, "--quick", help="A tiny cohort and 2 epochs: shows the flow, not the quality."),
    quiet: bool = typer.Option(False, "--quiet", help="No progress bars."),
) -> None:
    """Make a synthetic cohort, check it, pre-train with L_exp, embed, score and report: 5 minutes on 2 free cores.

    \b
    Example:
      medssl demo -o my-demo
    """
    if folder is not None and out is not None:
        raise typer.BadParameter(f"{folder} and -o {out} both name the folder; leave one of them out")
    from medssl import stages

    result, run = stages.demo(folder or out or "medssl-demo", seed=seed, quick=quick, progress=not quiet, say=say)
    say_text("\n" + result.markdown() + "\n")
    say(f"encoder  {run / 'encoder.safetensors'}")
    say(f"scores   {run / 'scores.json'}")
    say(f"report   {run / 'report.html'}")
    say("next: your own scans, `medssl cohort scan FOLDER -o manifest.csv` (see the README)")
