"""Commands around a cohort: scan a folder, check it, make a synthetic one, split it, fill the cache."""

from __future__ import annotations

from pathlib import Path

import typer

from medssl.cli.parse import free_to_write, say_note, three
from medssl.cli.scan import scan

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
    globs = None if columns is None else [name.strip() for name in columns.split(",") if name.strip()]
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
    typer.echo(f"{subjects} subjects at {sites} sites -> {manifest}")
    typer.echo(f"next: medssl cohort check {manifest}")


@app.command(short_help="Split by site, person and family.")
def split(
    manifest: Path = typer.Argument(..., metavar="MANIFEST", help="Manifest to split."),
    out: Path = typer.Option(..., "-o", "--out", help="Manifest to write, with the column split filled anew."),
    external_sites: str | None = typer.Option(None, metavar="A,B", help="These sites are external; default: drawn."),
    external_fraction: float = typer.Option(0.2, help="Share of the subjects at drawn external sites, about."),
    internal_fraction: float = typer.Option(0.2, help="Share of the other subjects held out for testing."),
    group: str | None = typer.Option(
        None,
        metavar="COLUMN",
        help="Keep people who share a value of this column together; it becomes the column family.",
    ),
    seed: int = typer.Option(0, help="Same seed, same split."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace an existing file."),
) -> None:
    """Split a manifest: whole sites for the external test, then subjects, evenly along site and age.

    All scans of a person stay on one side. So do all people of a family, where the manifest has a column family
    (or --group names one): a family with a scan at an external site is external as a whole.

    \b
    Examples:
      medssl cohort split manifest.csv -o split.csv --seed 1
      medssl cohort split manifest.csv -o split.csv --external-sites Leiden,Oxford
      medssl cohort split manifest.csv -o split.csv --group Family_ID
    """
    from medssl.data.manifest.cohort import Cohort
    from medssl.data.manifest.copies import same_files
    from medssl.data.manifest.file import known_name
    from medssl.data.manifest.folds import split_cohort, split_notes
    from medssl.data.manifest.groups import with_family
    from medssl.data.sources.tables import COLUMNS, read_table, write_manifest
    from medssl.tables.people import COPY, group_column

    free_to_write(out, overwrite)
    cohort = Cohort.read(manifest, images=False)
    for note in cohort.notes:
        say_note(note)
    sites = [name.strip() for name in external_sites.split(",") if name.strip()] if external_sites is not None else None
    given = read_table(manifest).rename(columns=known_name)
    table = cohort.table
    if group is not None:
        table = with_family(table, group, list(given.columns), str(manifest))
        given["family"] = given[group].to_numpy()
    labels = same_files(table["image"].tolist())
    kept = table.assign(**{COPY: labels})
    table = table.assign(split=split_cohort(kept, sites, external_fraction, internal_fraction, seed=seed))
    for name in given.columns:
        if name == "image" or name.startswith("image_") or (name == "mask" and table[name].dtype == object):
            given[name] = table[name].to_numpy()
    given["split"] = table["split"].to_numpy()
    known = [name for name in COLUMNS if name in given.columns]
    ordered = given[known + [name for name in given.columns if name not in known]]
    written = write_manifest(ordered, out, images="image" in given)
    also = " and of their families" if group_column(table.columns) else ""
    for name in ("train", "internal_test", "external_test", ""):
        rows = table[table["split"] == name]
        if len(rows):
            places = ", ".join(sorted(set(rows["site"]) - {""})) or "no site given"
            label = name or f"unused (other scans of external subjects{also})"
            typer.echo(f"{label}: {len(rows)} scans, {rows['subject'].nunique()} subjects; sites: {places}")
    if group not in (None, "family"):
        typer.echo(f"note: the column {group} was copied to the column family, which keeps its people on one side")
    if several := len(labels) - labels.count(""):
        typer.echo(
            f"note: {several} rows name files of the same content as others, and stay on their side; `medssl cohort "
            f"check {manifest}` names them"
        )
    for note in split_notes(table, external_fraction if sites is None else None):
        say_note(note)
    typer.echo(f"written: {written}")
    aged = bool(table["age"].notna().any())
    named = ("exponential" if aged else "simclr") if "image" in given else "exponential_roi 'data.columns=[...]'"
    if not aged:
        typer.echo("note: no row has an age, so methods that read it cannot train and no age can be scored")
    typer.echo(f"next: medssl pretrain {named} data.manifest={written} output=runs/first")


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
    images = cohort.files(rows, tuple(name.strip() for name in columns.split(",")))
    if verify:
        damaged = store.drop_damaged(store.keys(images, prep), workers, progress=not quiet)
        for entry, wrong in damaged.items():
            typer.echo(f"{entry} had {wrong} and is built again")
        typer.echo(f"{len(damaged)} damaged entries found")
    counts = store.build(images, prep, workers=workers, progress=not quiet, where=cohort.names(rows))
    typer.echo(f"{counts.built} entries built, {counts.present} were there, in {store.root}")
    if prune:
        gone = store.prune(set(store.keys(images, prep)))
        typer.echo(f"{gone.entries} other entries deleted, {gone.bytes / 1e6:.1f} MB freed")
    usage = store.usage()
    typer.echo(f"the cache holds {usage.entries} entries, {usage.bytes / 1e6:.1f} MB")
