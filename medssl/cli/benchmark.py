"""Benchmarks: many methods on one cohort, in one table and one figure."""

from __future__ import annotations

from pathlib import Path

import typer

from medssl.cli.parse import say, say_text

app = typer.Typer(
    help="Compare many methods on one cohort, cell by cell, resumable.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)

PRESETS = (
    "synthetic (71 minutes of one core), roi (a table given by --data; 193 minutes of one core), full (the published "
    "recipe on a manifest of `medssl cohort scan --layout openbhb`; a GPU: 78 trainings, 22 to 149 hours each as the "
    "authors state), or a YAML file like those in configs/benchmark."
)


@app.callback()
def _benchmark() -> None:
    pass


@app.command(short_help="Train and score every method of a preset.")
def openbhb(
    preset: str = typer.Option("synthetic", help=PRESETS),
    out: Path = typer.Option(Path("benchmark"), "-o", "--out", help="Folder of cells, table and figure."),
    data: Path | None = typer.Option(None, help="Table (roi) or manifest (full) of a preset without a cohort."),
    columns: str | None = typer.Option(None, metavar="A,B", help="Feature columns of the table: '*_thickness'."),
    quick: bool = typer.Option(False, "--quick", help="A few rows, one seed: shows the flow, too small to judge by."),
    seeds: int | None = typer.Option(None, min=1, help="Instead of the preset's number of seeds."),
    jobs: int | None = typer.Option(None, min=1, help="Processes; default one per core, full: one."),
    quiet: bool = typer.Option(False, "--quiet", help="No progress bar."),
) -> None:
    """Train and score every method of a preset by the challenge's probes; interrupt it and run it again to go on.

    \b
    Examples:
      medssl benchmark openbhb --preset synthetic --quick -o benchmark-quick
      medssl benchmark openbhb --preset roi --data regions.csv --columns '*_thickness' -o benchmark-roi
      medssl benchmark openbhb --preset full --data openbhb/vbm.csv --seeds 1 -o benchmark-full
    """
    from medssl.experiments.benchmark.run import benchmark

    chosen = [name.strip() for name in columns.split(",") if name.strip()] if columns else ()
    record = benchmark(preset, out, data=data, columns=chosen, quick=quick, seeds=seeds, jobs=jobs, progress=not quiet)
    say_text(record["markdown"])
    written = ", ".join(str(out / name) for name in ("benchmark.json", "benchmark.md", *record["figures"]))
    say(f"written: {written}", err=True)
