"""Commands around a run: pretrain, embed, score, report."""

from __future__ import annotations

from pathlib import Path

import typer

from medssl.cli.parse import say, say_text


def pretrain(
    recipe: str | None = typer.Argument(None, help="A recipe file, or a method name such as exponential."),
    overrides: list[str] = typer.Argument(None, metavar="[KEY=VALUE]...", help="Changes, such as optim.lr=1e-3."),
    resume: Path | None = typer.Option(None, "--resume", metavar="RUN", help="Continue this run."),
    show: bool = typer.Option(False, "--print", help="Print the resolved recipe and stop."),
    quiet: bool = typer.Option(False, "--quiet", help="No progress bars."),
) -> None:
    """Train an encoder as a recipe says.

    \b
    Examples:
      medssl pretrain exponential data.manifest=cohort/manifest.csv trainer.epochs=50
      medssl pretrain my.yaml optim.lr=3e-4 encoder.width=32 output=runs/wide
      medssl pretrain --resume runs/wide
      medssl pretrain --resume runs/wide trainer.devices=1 data.batch_size=64
    """
    if resume is not None and recipe is not None:
        if "=" not in recipe:
            raise typer.BadParameter("--resume continues a run with its own recipe; leave out the recipe")
        overrides, recipe = [recipe, *(overrides or [])], None
    if resume is None and recipe is None:
        raise typer.BadParameter("give a recipe file, a method name, or --resume RUN")
    from medssl.recipe.model import load_recipe  # a mistyped key is refused before torch is imported

    asked = None
    if resume is None or show:
        asked = load_recipe(str(resume / "recipe.yaml") if recipe is None else recipe, overrides or [])  # type: ignore[operator]
    if asked is not None and show:
        say_text(asked.to_yaml(), nl=False)
        return
    from medssl import stages
    from medssl.distributed import process_is_first
    from medssl.errors import StoppedByHand

    first = process_is_first()
    if first and resume is not None and (done := stages.finished_at(resume)):
        say(f"{resume} was finished at {done}; nothing is left to do", err=True)
    try:
        changes = overrides or [] if asked is None else []
        run = stages.pretrain(asked, *changes, resume=resume, progress=not quiet)
    except KeyboardInterrupt as stop:
        if not first:
            raise typer.Exit(130) from None  # the first process says it
        folder = resume if asked is None else stages.run_folder(asked.absolute())
        raise StoppedByHand(str(stop) or stages.stopped_by_hand(Path(str(folder)))) from None
    if not first:
        return
    say(f"encoder  {run / 'encoder.safetensors'}")
    say(f"report   {run / 'report.html'}")
    say(f"next: medssl score {run}", err=True)


def embed(
    run: Path = typer.Argument(..., help="A run folder, or an encoder.safetensors file."),
    manifest: list[Path] = typer.Argument(None, help="Manifests to embed; default: those of the run."),
    out: Path | None = typer.Option(None, "-o", "--out", help="features .csv, .tsv, .npz or .parquet."),
    projection: bool = typer.Option(False, "--projection", help="Write z of the projector instead of h."),
    device: str = typer.Option("auto", help="auto, cpu or cuda."),
    cache: Path | None = typer.Option(None, help="Folder of the volume cache."),
    batch: int = typer.Option(32, min=1, help="Scans per forward pass."),
    workers: int = typer.Option(0, min=0, help="Threads that read volumes; 0 is one."),
    strict: bool = typer.Option(False, "--strict", help="Refuse scans that look unlike the training scans."),
    on_error: str = typer.Option(
        "stop", "--on-error", metavar="stop|skip", help="Of scans that cannot be read: stop, or list them and go on."
    ),
    quiet: bool = typer.Option(False, "--quiet", help="No progress bars."),
) -> None:
    """Features of every scan of a manifest, as a table with participant, age, sex, site and split.

    The column unlike (0 to 1) says how far a scan is from what the encoder was trained on; beyond 0.95 is rare. One
    note per kind of difference says how many scans are named and why: not skull-stripped, inverted, turned, ...

    \b
    Examples:
      medssl embed runs/wide clinic/manifest.csv -o clinic/features.csv
      medssl embed runs/wide clinic/manifest.csv -o clinic/features.csv --on-error skip --strict
    """
    from medssl import stages

    sources = [str(m) for m in manifest] if manifest else None
    table = stages.embed(
        run,
        sources,
        out,
        projection=projection,
        device=device,  # type: ignore[arg-type]  # checked there
        cache=cache,
        batch=batch,
        workers=workers,
        progress=not quiet,
        strict=strict,
        on_error=on_error,  # type: ignore[arg-type]  # checked there
    )
    say(f"{len(table)} scans x {table.values.shape[1]} features -> {out or stages.features_path(run, projection)}")


def score(
    target: Path = typer.Argument(..., help="A features table, or a run folder (embedded first where needed)."),
    out: Path | None = typer.Option(None, "-o", "--out", help="Folder for scores.json and predictions.csv."),
    scale: bool = typer.Option(False, "--scale", help="Standardise on the training rows (the challenge does not)."),
    references: bool = typer.Option(True, help="Also score voxels and the untrained encoder."),
    resamples: int = typer.Option(2000, min=0, help="Bootstrap resamples."),
    prefix: str | None = typer.Option(
        None, help="Features are the columns that begin so (default: f0000, f0001, ...)."
    ),
    harmonize: str | None = typer.Option(None, help="combat or residual: take the site out, fitted on train rows."),
    unseen: str = typer.Option("error", help="Sites without training rows: error, none (as they are), transductive."),
    as_json: bool = typer.Option(False, "--json", help="Print scores.json instead of a table."),
    quiet: bool = typer.Option(False, "--quiet", help="No progress bars."),
) -> None:
    """Age error on known and unseen sites, and how well the site can be read; beside reference rows.

    \b
    Examples:
      medssl score runs/wide
      medssl score clinic/features.csv -o clinic/
      medssl score volumes.csv --prefix vol_
      medssl score runs/wide --harmonize combat --unseen none -o runs/wide/combat
    """
    import json

    from medssl import stages

    result = stages.score(
        target,
        out,
        scale=scale,
        resamples=resamples,
        references=references,
        prefix=prefix,
        harmonize=harmonize,  # type: ignore[arg-type]  # checked there
        unseen=unseen,  # type: ignore[arg-type]  # checked there
        progress=not quiet,
    )
    say_text(json.dumps(result.to_dict(), indent=2) if as_json else result.markdown())
    folder = out or (target if target.is_dir() else target.parent)
    say(f"written: {folder / 'scores.json'}, {folder / 'predictions.csv'}", err=True)
    if target.is_dir():
        say(f"next: medssl report {target}", err=True)


def report(
    run: Path = typer.Argument(..., help="A run folder."),
    out: Path | None = typer.Option(
        None, "-o", "--out", help="File to write, or a folder for several; default: into RUN."
    ),
    checklist: list[str] = typer.Option(
        None,
        "--checklist",
        metavar="tripod-ai|claim|all",
        help="Fill in a reporting checklist instead (.md .html .csv).",
    ),
    model_card: bool = typer.Option(
        False, "--model-card", help="Write a model card (README.md) of the encoder instead."
    ),
) -> None:
    """One self-contained HTML file: data, curves, maps, scorecard, errors per site, versions.

    With --checklist, a reporting checklist for a paper (TRIPOD+AI or CLAIM): what the run knows is filled in, and what
    only the authors can say is listed as questions. With --model-card, a card in the format of the Hugging Face hub.

    \b
    Examples:
      medssl report runs/wide
      medssl report runs/wide --checklist tripod-ai
      medssl report runs/wide --checklist claim -o paper/claim.html
      medssl report runs/wide --checklist all --model-card -o paper/
    """
    from medssl import stages

    if not checklist and not model_card:
        say(stages.report(run, out))
        return
    for path in stages.documents(run, out, checklists=checklist or [], model_card=model_card):
        say(path)
    if checklist:
        say("next: answer the questions for the authors at the end of the checklist", err=True)
