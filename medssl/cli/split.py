"""The command that splits a manifest by site, person and family; ``cohort`` registers it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from medssl.cli.parse import free_to_write, names_of, say, say_note

if TYPE_CHECKING:
    import pandas as pd

    from medssl.data.manifest.cohort import Cohort


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
    columns: str | None = typer.Option(
        None,
        metavar="A,B",
        help="Of a table: rows with the same values in these columns stay together: '*_thickness,*_volume'.",
    ),
    seed: int = typer.Option(0, help="Same seed, same split."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace an existing file."),
) -> None:
    """Split a manifest: whole sites for the external test, then subjects, evenly along site and age.

    All scans of a person stay on one side. So do all people of a family, where the manifest has a column family
    (or --group names one): a family with a scan at an external site is external as a whole. Files of the same content
    stay on one side too, and of a table rows with the same features (16 or more), where --columns names these.

    \b
    Examples:
      medssl cohort split manifest.csv -o split.csv --seed 1
      medssl cohort split manifest.csv -o split.csv --external-sites Leiden,Oxford
      medssl cohort split manifest.csv -o split.csv --group Family_ID
      medssl cohort split regions.csv -o split.csv --columns '*_thickness,*_volume'
    """
    from medssl.data.manifest.cohort import Cohort
    from medssl.data.manifest.folds import split_cohort, split_notes
    from medssl.data.manifest.twins import with_copies
    from medssl.tables.people import COPY

    free_to_write(out, overwrite)
    cohort = Cohort.read(manifest, images=False)
    for note in cohort.notes:
        say_note(note)
    given = _given(manifest)
    table = cohort.table
    if group is not None:
        table = _grouped(table, given, group, manifest)
    patterns = names_of(columns)
    labels = with_copies(cohort, patterns)[COPY].tolist()
    kept = table.assign(**{COPY: labels})
    parts = split_cohort(kept, names_of(external_sites), external_fraction, internal_fraction, seed=seed)
    table = table.assign(split=parts)
    written = _write(table, given, out, overwrite)
    _say_parts(table)
    if group not in (None, "family"):
        say_note(f"the column {group} was copied to the column family, which keeps its people on one side")
    _say_copies(cohort, labels, manifest, patterns)
    for note in split_notes(table, external_fraction if external_sites is None else None):
        say_note(note)
    say(f"written: {written}")
    _say_next(table, written, patterns, "image" in given)


def _given(manifest: Path) -> pd.DataFrame:
    """The rows of the manifest as they stand there, so that what is written differs in nothing but the split."""
    from medssl.data.manifest.file import known_name
    from medssl.data.sources.tables import read_table

    return read_table(manifest).rename(columns=known_name)


def _grouped(table: pd.DataFrame, given: pd.DataFrame, group: str, manifest: Path) -> pd.DataFrame:
    """The rows with the families that --group names, which ``given`` gets as its column family."""
    from medssl.data.manifest.groups import with_family
    from medssl.tables.people import is_group

    table = with_family(table, group, list(given.columns), str(manifest))
    given["family"] = table["family"].to_numpy() if is_group(group) else given[group].to_numpy()
    return table


def _write(table: pd.DataFrame, given: pd.DataFrame, out: Path, overwrite: bool) -> Path:
    """Write the given rows with the split and with paths that lead from the new place."""
    from medssl.data.sources.tables import COLUMNS, write_manifest

    for name in given.columns:
        if name == "image" or name.startswith("image_") or (name == "mask" and table[name].dtype == object):
            given[name] = table[name].to_numpy()
    given["split"] = table["split"].to_numpy()
    known = [name for name in COLUMNS if name in given.columns]
    ordered = given[known + [name for name in given.columns if name not in known]]
    return write_manifest(ordered, out, images="image" in given, overwrite=overwrite)


def _say_parts(table: pd.DataFrame) -> None:
    """One line for each part of the split."""
    from medssl.tables.people import group_column

    also = " and of their families" if group_column(table.columns) else ""
    for name in ("train", "internal_test", "external_test", ""):
        rows = table[table["split"] == name]
        if len(rows):
            places = ", ".join(sorted(set(rows["site"]) - {""})) or "no site given"
            label = name or f"unused (other scans of external subjects{also})"
            say(f"{label}: {len(rows)} scans, {rows['subject'].nunique()} subjects; sites: {places}")


def _say_copies(cohort: Cohort, labels: list[str], manifest: Path, patterns: list[str] | None) -> None:
    """What was kept together because it is one scan, and what was not looked at."""
    several = len(labels) - labels.count("")
    table = not cohort.has("image")
    if several:
        what = "name files of the same content as others" if patterns is None else "have the same features as others"
        more = "" if patterns is None else f" --columns '{','.join(patterns)}'"
        say_note(f"{several} rows {what}, and stay on their side; `medssl cohort check {manifest}{more}` names them")
    elif table and patterns is None:
        say_note(
            "rows with the same features were not looked for, since nothing says which columns are features; where "
            "two rows may show one scan, name the columns, such as --columns '*_thickness'"
        )


def _say_next(table: pd.DataFrame, written: Path, patterns: list[str] | None, images: bool) -> None:
    """The command that comes next."""
    aged = bool(table["age"].notna().any())
    chosen = "..." if patterns is None else ", ".join(f'"{pattern}"' for pattern in patterns)
    named = ("exponential" if aged else "simclr") if images else f"exponential_roi 'data.columns=[{chosen}]'"
    if not aged:
        say_note("no row has an age, so methods that read it cannot train and no age can be scored")
    say(f"next: medssl pretrain {named} data.manifest={written} output=runs/first")
