"""Commands around a cohort: scan a folder, check it, make a synthetic one, split it, fill the cache."""

from __future__ import annotations

from pathlib import Path

import typer

from medssl.cli.parse import names_of, say, say_note, three
from medssl.cli.scan import scan
from medssl.cli.split import split

app = typer.Typer(
    help="Manifests: scan a folder, check it, split it by site and person, make a synthetic cohort, fill the cache.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)


app.command(short_help="Write a manifest from folders of scans.")(scan)


@app.command(short_help="Find what would break a training.")
def check(
    manifest: list[Path] = typer.Argument(..., metavar="MANIFEST", help="One or more manifests."),
    json_file: Path | None = typer.Option(None, "--json", metavar="FILE", help="Also write the report as JSON."),
    columns: str | None = typer.Option(
        None, metavar="A,B", help="Check these columns of a table as features: '*_thickness,*_volume'."
    ),
    sample: int = typer.Option(500, min=0, help="Read the voxels of this many scans; headers are read of all."),
    encoder: Path | None = typer.Option(
        None,
        "--encoder",
        metavar="RUN",
        help="Also compare scans with those that this encoder was trained on.",
    ),
    everything: bool = typer.Option(False, "--all", help="Print every finding, not the first few of each kind."),
    workers: int | None = typer.Option(None, min=1, help="Processes that read scans; default all cores."),
    quiet: bool = typer.Option(False, "--quiet", help="No progress bar."),
) -> None:
    """Look for what would break or bias a training; exit status 1 where something would break it.

    Broken, empty, 4D or missing scans; orientation, spacing and shape that differ; copies; one person or family
    on both sides of a split; odd ages, sexes and sites; age confounded with site.

    \b
    Examples:
      medssl cohort check manifest.csv
      medssl cohort check manifest.csv --json check.json --all
      medssl cohort check clinic.csv --encoder runs/wide
      medssl cohort check regions.csv --columns '*_thickness,*_volume'
    """
    from medssl.cli.findings import print_report
    from medssl.data.checks.report import check as check_cohort
    from medssl.data.manifest.cohort import Cohort

    if json_file is not None:
        import re

        from medssl.files import Output, refuse_foreign

        kind = Output("a report of the check", {".json": re.compile(rb'\{\s*"ok":')})
        refuse_foreign(json_file, kind, manifest)
    globs = names_of(columns)
    cohort = Cohort.read([str(path) for path in manifest], images=globs is None)
    report = check_cohort(cohort, sample=sample, progress=not quiet, workers=workers, columns=globs)
    if encoder is not None:
        from medssl.runs.unlike_scans import with_encoder

        report = with_encoder(report, cohort, encoder, sample, progress=not quiet)
    if json_file is not None:
        import json

        from medssl.files import write_atomic

        text = json.dumps(report.to_dict(), indent=2, allow_nan=False) + "\n"
        write_atomic(json_file, lambda file: file.write(text.encode()))
    print_report(report, everything)
    if not report.ok:
        raise typer.Exit(1)


@app.command(short_help="Make a synthetic cohort with known truth.")
def synth(
    out: Path = typer.Argument(..., metavar="OUT", help="Folder to write into."),
    subjects: int = typer.Option(300, min=1, help="How many people."),
    sites: int = typer.Option(10, min=1, help="How many scanners."),
    seed: int = typer.Option(0, help="Same seed, same bytes."),
    spacing: float = typer.Option(4.0, help="Voxel size in mm."),
    confounding: float = typer.Option(0.0, min=0.0, max=1.0, help="How far age depends on the site; 0 is balanced."),
    external_fraction: float = typer.Option(0.2, help="Share of the sites that is never trained on."),
    internal_fraction: float = typer.Option(0.2, help="Share of the subjects at the other sites held out for testing."),
    workers: int | None = typer.Option(None, min=1, help="Threads; default all cores."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace another synthetic cohort in this folder."),
    quiet: bool = typer.Option(False, "--quiet", help="No progress bar."),
) -> None:
    """Make a synthetic cohort: brains that age, at sites with scanners of their own, with known truth.

    \b
    Examples:
      medssl cohort synth demo --subjects 300 --sites 10 --seed 1
      medssl cohort synth confounded --confounding 0.8
    """
    from medssl.data.synthetic.cohort import synthesize

    manifest = synthesize(
        out,
        subjects=subjects,
        sites=sites,
        seed=seed,
        spacing=spacing,
        confounding=confounding,
        external_fraction=external_fraction,
        internal_fraction=internal_fraction,
        progress=not quiet,
        workers=workers,
        overwrite=overwrite,
    )
    say(f"{subjects} subjects at {sites} sites -> {manifest}")
    say(f"next: medssl cohort check {manifest}")


app.command(short_help="Split by site, person and family.")(split)


@app.command(short_help="Preprocess scans into the cache.")
def cache(
    manifest: list[Path] = typer.Argument(..., metavar="MANIFEST", help="One or more manifests."),
    spacing: str | None = typer.Option(None, metavar="MM", help="Resample to this voxel size: 2 or 1,1,2."),
    shape: str | None = typer.Option(None, metavar="N", help="Crop or pad to this many voxels: 96 or 40,48,40."),
    intensity: str = typer.Option("zscore", help="zscore, percentile or none."),
    mask: str = typer.Option("nonzero", help="Where intensities are measured: nonzero, otsu or none."),
    nan: str = typer.Option("error", help="Voxels that are NaN: error, or zero (SPM and CAT12 write them around)."),
    columns: str = typer.Option("image", "--images", metavar="A,B", help="Image columns, the channels of a scan."),
    folder: Path | None = typer.Option(
        None, "--cache", metavar="DIR", help="Default $MEDSSL_CACHE or ~/.cache/medssl."
    ),
    dtype: str = typer.Option("float32", help="Type of the entries: float32, or float16 for half the space."),
    workers: int | None = typer.Option(None, min=1, help="Processes; default all cores."),
    verify: bool = typer.Option(False, "--verify", help="First read every entry that is there, and mend damaged ones."),
    prune: bool = typer.Option(False, "--prune", help="Then delete every entry that these scans do not need."),
    quiet: bool = typer.Option(False, "--quiet", help="No progress bar."),
) -> None:
    """Preprocess the scans of a manifest into the cache, so that training starts at once.

    Entries are addressed by file and preprocessing: a changed scan or option never reads an old entry. Each carries a
    checksum, which is compared whenever a training or an embedding first reads it.

    \b
    Examples:
      medssl cohort cache manifest.csv --spacing 4 --shape 40,48,40
      medssl cohort cache manifest.csv --spacing 4 --shape 40,48,40 --verify
      medssl cohort cache manifest.csv --spacing 2 --cache /scratch/medssl --prune
    """
    from medssl.data.loading.cache import VolumeCache
    from medssl.data.manifest.cohort import Cohort
    from medssl.data.volumes.preprocess import Preprocessing

    options = {"intensity": intensity, "mask": mask, "nan": nan}
    size = {"spacing": three(spacing, float, "--spacing"), "shape": three(shape, int, "--shape")}
    prep = Preprocessing.from_dict(size | options)
    cohort = Cohort.read([str(path) for path in manifest])
    for note in cohort.notes:
        say_note(note)
    store = VolumeCache(folder, dtype=dtype)
    rows = cohort.rows()
    images = cohort.files(rows, tuple(names_of(columns) or ()))
    if verify:
        damaged = store.drop_damaged(store.keys(images, prep), workers, progress=not quiet)
        for entry, wrong in damaged.items():
            say(f"{entry} had {wrong} and is built again")
        say(f"{len(damaged)} damaged entries found")
    counts = store.build(images, prep, workers=workers, progress=not quiet, where=cohort.names(rows))
    say(f"{counts.built} entries built, {counts.present} were there, in {store.root}")
    if prune:
        gone = store.prune(set(store.keys(images, prep)))
        say(f"{gone.entries} other entries deleted, {gone.bytes / 1e6:.1f} MB freed")
    usage = store.usage()
    say(f"the cache holds {usage.entries} entries, {usage.bytes / 1e6:.1f} MB")
