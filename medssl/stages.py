"""The flow on one screen: pretrain, embed, score, report. The command line only parses and calls these."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch

from medssl.checks import Count, Flag, ProcessesOrNone, Resamples, SolverSeed, checked
from medssl.data.checks.report import check
from medssl.data.loading.cache import VolumeCache
from medssl.data.manifest.cohort import Cohort
from medssl.data.synthetic.cohort import synthesize
from medssl.distributed import process_is_first, say
from medssl.encoders.file import load_encoder, read_card
from medssl.errors import ScanWarning, UserError
from medssl.evaluation.scorecard import Line, Scores, scorecard
from medssl.evaluation.scores import refuse_foreign_scores
from medssl.export.reporting import write_documents
from medssl.features.embed import embed_cohort
from medssl.features.files import refuse_foreign_table
from medssl.features.scans import rows_with_images, said_of
from medssl.features.table import FeatureTable
from medssl.harmonize.base import Unseen
from medssl.harmonize.build import Name, build_harmonizer
from medssl.progress.steps import tracked
from medssl.recipe.build import assemble
from medssl.recipe.model import Recipe, load_recipe, parse_recipe
from medssl.recipe.overrides import assigned
from medssl.recipe.scans import scans_digest
from medssl.report.build import build_report
from medssl.runs.folder import Run
from medssl.runs.lineage import origin_of, own_cohort, own_encoder, same_modality, seen_in_training
from medssl.runs.network import network_of
from medssl.runs.pretraining import finished_at, resume_run, stopped_by_hand, train_run
from medssl.runs.references import reference_features
from medssl.runs.same_scans import copied, trained_on
from medssl.training.checkpoints import list_checkpoints
from medssl.training.hardware.device import announce

DEMO = (600, 30, 24)  # people, scanners (a fifth of them unseen in training), epochs


def synthetic_cohort(out: str | Path, subjects: int = 300, sites: int = 10, seed: int = 0, **options: Any) -> Path:
    """Write a synthetic multi-site cohort and return the path of its manifest (see ``medssl cohort synth``)."""
    return synthesize(Path(out), subjects=subjects, sites=sites, seed=seed, **options)


@checked
def pretrain(
    recipe: Recipe | str | Path | Mapping[str, Any] | None = None,
    *overrides: str,
    resume: str | Path | None = None,
    progress: Flag = True,
    page: Flag = True,
) -> Path:
    """Train an encoder as a recipe says, or continue a run; returns the run folder.

    recipe: a Recipe, its plain values, a YAML file or a catalogue name; overrides: "optim.lr=1e-3"; of a continued run,
    only where it runs ("trainer.devices=1"). page: also write report.html.
    Raises UserError for what the user wrote, TrainingStopped (loss no number), KeyboardInterrupt (how to go on).
    """
    if resume is not None:
        return resume_run(Run(resume), overrides, progress, page)
    recipe = _recipe(recipe, overrides).absolute()
    run = Run(run_folder(recipe))
    asked, recipe = recipe.trainer, recipe.settled()
    if process_is_first():
        run.refuse_taken([source["path"] for source in recipe.data.sources])
    parts = assemble(recipe, progress=progress)
    announce(asked, recipe.trainer, recipe.data.batch_size, quiet=not progress or not process_is_first())
    train_run(recipe, parts, run, None, progress, page)
    return run.folder


def run_folder(recipe: Recipe) -> Path:
    """The folder that a training by this recipe makes."""
    return Path(recipe.output or f"runs/{recipe.method.name}-{recipe.digest[:8]}")


@checked
def embed(
    run: str | Path,
    manifest: str | Path | Sequence[str | Path] | None = None,
    out: str | Path | None = None,
    *,
    projection: Flag = False,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    cache: str | Path | None = None,
    batch: Count = 32,
    workers: ProcessesOrNone = 0,
    progress: Flag = True,
    strict: Flag = False,
    on_error: Literal["stop", "skip"] = "stop",
) -> FeatureTable:
    """Features of every scan of a manifest (default: the run's own manifests, into RUN/features.csv).

    run: a run folder or an encoder file. projection: z of the projector instead of the encoder's h. The column
    "unlike" (0 to 1) says how far a scan is from the encoder's training scans, and a ScanWarning for every kind of
    difference how many are; strict: refuse these instead. on_error: "stop" at scans that cannot be read, or "skip" them
    and list them in OUT.failures.csv.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("device is 'cuda', but torch finds no GPU here; use auto or cpu")
    network = network_of(Path(run), projection)
    sources = network.manifests if manifest is None else manifest
    if not sources:
        raise UserError(f"{run} does not say which manifest it was trained on; give one")
    if out is None and manifest is not None:
        raise UserError("say where the features of this manifest go, such as -o features.csv")
    if out is not None:
        inputs = [sources] if isinstance(sources, str | Path) else sources
        refuse_foreign_table(Path(out), [one["path"] if isinstance(one, Mapping) else one for one in inputs])
    out = features_path(run, projection) if out is None else out
    cohort = Cohort.read(sources, images=network.columns is None)
    say(cohort.notes, progress)
    accept = own_cohort if manifest is None else same_modality
    accept(Path(run), cohort)
    named = rows_with_images(cohort, network.images)[0] if on_error == "skip" else range(len(cohort.table))
    scans = scans_digest(cohort, named, network.images, times=True)
    provenance = {
        "run": str(Path(run).resolve()),
        "encoder": network.digest,
        "features": "projection" if projection else "encoder",
        "manifest": cohort.digest,
        "scans": scans,
        **origin_of(cohort, sources),
        "preprocessing": network.preprocessing.to_dict(),
        **({} if network.columns is None else network.columns.provenance(cohort)),
    }
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    network.known(run, strict)
    table = embed_cohort(
        network.encoder,
        cohort,
        network.preprocessing,
        Path(out),
        provenance=provenance,
        head=network.head,
        clean=network.clean,
        images=network.images,
        columns=network.columns,
        cache=VolumeCache(cache or network.cache, dtype=network.cache_dtype),
        device=device,
        batch=batch,
        workers=workers,
        progress=progress,
        likeness=network.likeness,
        strict=strict,
        on_error=on_error,
    )
    for sentence in said_of(table, Path(out)):
        warnings.warn(sentence, ScanWarning, stacklevel=3)  # past the decorator, at the caller
    return table


def features_path(run: str | Path, projection: bool = False) -> Path:
    """Where ``embed`` writes where it is not told: into the run folder, or beside where one stands."""
    out = Run(run).features if Path(run).is_dir() else Path("features.csv")
    return out.with_name("features-z.csv") if projection else out


@checked
def score(
    target: str | Path,
    out: str | Path | None = None,
    *,
    scale: Flag = False,
    resamples: Resamples = 2000,
    seed: SolverSeed = 0,
    references: Flag = True,
    prefix: str | None = None,
    harmonize: Name | None = None,
    unseen: Unseen = "error",
    progress: Flag = True,
) -> Scores:
    """OpenBHB-style scorecard of a features table or of a run (which is embedded first where needed).

    Writes scores.json and predictions.csv beside the table or into the run folder. references: also compute
    ridge on down-sampled voxels and the untrained encoder, where the scans can still be read. prefix: of the names
    of the feature columns in a table that medssl did not write. harmonize: "combat" or "residual", fitted on the
    train rows; unseen: "error", "none" or "transductive" for sites that they do not hold. The probes use all cores.
    """
    target, harmonizer = Path(target), build_harmonizer(harmonize, unseen) if harmonize else None
    if not target.exists():
        raise UserError(f"{target} does not exist; give a run folder or a features table")
    if out is not None or not target.is_dir():
        refuse_foreign_scores(Path(out) if out else target.parent, target)
    table = embed(target, progress=progress) if target.is_dir() else FeatureTable.read(target, prefix=prefix)
    extra = reference_features(table, progress) if references else {}
    result = scorecard(
        table,
        extra,
        seed=seed,
        scale=scale,
        resamples=resamples,
        n_jobs=-1,
        harmonize=harmonizer,
        watch=lambda lines: _watched(lines, progress),
    )
    by_content = trained_on(table)
    overlap = [*copied(table), *by_content, *seen_in_training(table, by_files=not by_content)]
    told = said_of(table, features_path(target) if target.is_dir() else target)
    result = replace(result, notes=(*overlap, *told, *result.notes))
    result.write(Path(out) if out else (target if target.is_dir() else target.parent))
    return result


def _watched(lines: list[Line], progress: bool) -> Iterable[Line]:
    """The rows of a scorecard with a bar, or lines in a log, on stderr."""
    return tracked(lines, "scoring", len(lines), progress)


def report(run: str | Path, out: str | Path | None = None) -> Path:
    """One self-contained HTML file about a run; returns its path."""
    own_encoder(Path(run))
    return build_report(Path(run), Path(out) if out else None)


def documents(
    run: str | Path, out: str | Path | None = None, *, checklists: Sequence[str] = (), model_card: bool = False
) -> list[Path]:
    """Reporting checklists ("tripod-ai", "claim", "all") with what a run knows filled in, and its model card for the
    Hugging Face hub; returns the paths.

    out: a file (.md, .html, .csv; the model card .md) or a folder; by default they are written into the run folder.
    """
    return write_documents(Path(run), Path(out) if out else None, checklists, model_card)


@checked
def demo(
    out: str | Path,
    *,
    seed: SolverSeed = 0,
    quick: Flag = False,
    progress: Flag = True,
    say: Callable[[str], None] = print,
) -> tuple[Scores, Path]:
    """Synthetic cohort, check, pre-train, embed, score, report; what is already there is not made again."""
    out = Path(out)
    subjects, sites, epochs = (72, 9, 2) if quick else DEMO
    say(f"1/5  synthetic cohort: {subjects} people, {sites} scanners")
    manifest = synthesize(out / "cohort", subjects=subjects, sites=sites, seed=seed, progress=progress)
    say("2/5  check")
    found = check(Cohort.read(manifest), progress=progress)
    if not found.ok:
        raise UserError(f"{manifest} did not pass the check; run `medssl cohort check {manifest}`")
    folder = out / "run"
    say("3/5  pre-train with L_exp")
    if list_checkpoints(Run(folder).checkpoints):
        if Run(folder).read_info()["state"] != "finished":
            pretrain(resume=folder, progress=progress)
    else:
        changes = [assigned("data.manifest", manifest.resolve()), assigned("data.cache", (out / "cache").resolve())]
        changes += [assigned("output", folder), f"trainer.epochs={epochs}", f"trainer.seed={seed}"]
        pretrain("demo", *changes, progress=progress)
    say("4/5  embed and score")
    result = score(folder, seed=seed, progress=progress)
    say("5/5  report")
    report(folder)
    return result, folder


def _recipe(recipe: Recipe | str | Path | Mapping[str, Any] | None, overrides: Sequence[str]) -> Recipe:
    if recipe is None:
        raise UserError("give a recipe file, a method name or a run to resume")
    if isinstance(recipe, Recipe):
        return recipe
    if isinstance(recipe, Mapping):
        return parse_recipe(recipe)
    return load_recipe(recipe, overrides)


__all__ = [
    "documents",
    "embed",
    "finished_at",
    "load_encoder",
    "pretrain",
    "read_card",
    "report",
    "run_folder",
    "score",
    "stopped_by_hand",
    "synthetic_cohort",
]
