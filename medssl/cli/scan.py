"""The command that writes a manifest from folders of scans; ``cohort`` registers it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from medssl.cli.parse import free_to_write, pair_list, pairs, say, say_note

if TYPE_CHECKING:
    import pandas as pd

_DIAGNOSES = frozenset(
    ("group", "groups", "dx", "dxgroup", "diag", "diagnostic", "diagnose", "patientgroup", "clinicalgroup",
     "studygroup", "status", "condition", "disease", "patient", "casecontrol")
)  # fmt: skip
_FEW = 20


def scan(
    roots: list[Path] = typer.Argument(
        ..., metavar="ROOT", help="Folder of the scans (BIDS, flat, plain, or one of several BIDS folders); repeatable."
    ),
    out: Path = typer.Option(Path("manifest.csv"), "-o", "--out", help="Manifest to write, .csv or .tsv."),
    suffix: str = typer.Option(
        "T1w", help="Which images: the last part of their names, such as FLAIR. Without any T1w, UNIT1 is taken."
    ),
    derivative: str | None = typer.Option(
        None, help="A folder below derivatives/, or a part of file names there, such as desc-brain."
    ),
    layout: str = typer.Option("auto", help="auto, bids, flat (files and a table), plain (files only) or openbhb."),
    modality: str = typer.Option(
        "vbm", help="Of OpenBHB: vbm, quasiraw, xhemi, vbm_roi, desikan_roi, destrieux_roi or raw."
    ),
    as_table: bool = typer.Option(
        False, "--as-table", help="Of OpenBHB: write regional measures as columns, for data.columns."
    ),
    vbm_mask: Path | None = typer.Option(None, help="Mask of OpenBHB's vbm rows, where it is not in resource/."),
    quasiraw_mask: Path | None = typer.Option(None, help="Mask of OpenBHB's quasiraw rows, likewise."),
    table: Path | None = typer.Option(None, help="Participants table, where it is not ROOT/participants.tsv."),
    column: list[str] = typer.Option(
        None,
        "--column",
        metavar="NAME=THEIRS",
        help="Name of a column in that table: age=AGE_AT_SCAN; repeatable.",
    ),
    sex: list[str] = typer.Option(
        None, "--sex", metavar="CODE=M", help="What a code of sex means in that table: 0=F; repeatable."
    ),
    pattern: str | None = typer.Option(None, help="Which files of a flat or plain folder, such as '*_brain.nii.gz'."),
    echo: int | None = typer.Option(
        None, min=1, help="Which of several echoes; default: the combined image, else the first."
    ),
    session: list[str] = typer.Option(
        None,
        "--session",
        metavar="THEIRS=FOLDERS",
        help="Session of the table that is one of the folder: M12=ses-2; none=ses-3 has no row; repeatable.",
    ),
    keep: list[str] = typer.Option(
        None,
        "--keep",
        metavar="COLUMN=WORD",
        help="A word that is a name and not a missing value: site=NA is written as site-NA; repeatable.",
    ),
    dataset: str | None = typer.Option(None, help="Fill the column dataset with this name."),
    site: str | None = typer.Option(None, help="Fill the column site with this name."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace an existing manifest."),
) -> None:
    """Write a manifest from a folder of scans.

    Reads participants.tsv and sessions.tsv where they exist, and says which images have no row in them and
    which rows have no image. Columns that look like names or birth dates are left out.

    Every image format that medssl reads is found. What is no scan is not: hidden files, what .bidsignore names,
    phase images. sub-XX in a path is the participant. Of one person and session one image is taken from a BIDS
    folder: of runs the first, of echoes the combined image or the first. Links and pointers of datalad, git-annex
    and git-lfs whose content is not here stay in the manifest, and the command that fetches them is said.

    Sessions meet their rows in any usual spelling (1, 01, ses-1; M6, M006; bl, baseline); where none of a person's
    does, the scan stops and shows both spellings. Where rows of one person contradict each other, the value is left
    empty and named.

    Several folders, or a folder that holds several BIDS folders, become one manifest: dataset and site are the
    folder's name where its table names none, and equal ids of different folders stay different people.

    \b
    Examples:
      medssl cohort scan /data/bids -o manifest.csv
      medssl cohort scan /data/bids --derivative desc-brain -o brains.csv
      medssl cohort scan /data/oslo /data/lund -o both.csv
      medssl cohort scan /data/bids --session baseline=ses-01 --session M12=ses-02 --keep site=NA -o manifest.csv
      medssl cohort scan /data/scans --table pheno.csv --column participant_id=ID --column age=AGE -o manifest.csv
      medssl cohort scan /data/openbhb --layout openbhb --modality quasiraw -o openbhb.csv
    """
    from medssl.data.sources.bids import scan_folder, write_manifest
    from medssl.data.sources.folders import refuse_one_dataset
    from medssl.data.sources.names import filled
    from medssl.data.sources.tables import COLUMNS, listed

    free_to_write(out, overwrite, [*(root / "participants.tsv" for root in roots), *([] if table is None else [table])])
    visits = pair_list(session, "--session")
    if layout == "openbhb":
        from medssl.data.sources.openbhb import scan_openbhb

        if len(roots) > 1:
            raise typer.BadParameter("OpenBHB is one folder; give one", param_hint="ROOT")
        for name, value in (("--echo", echo), ("--keep", keep), ("--pattern", pattern), ("--table", table)):
            if value:
                raise typer.BadParameter("is of other layouts than openbhb; leave it out", param_hint=name)
        given = {"vbm": vbm_mask, "quasiraw": quasiraw_mask}
        masks = {name: path for name, path in given.items() if path is not None}
        found = scan_openbhb(roots[0], modality, masks, visits)
        if as_table:
            from medssl.data.sources.openbhb_measures import as_columns

            found = as_columns(found, modality)
    else:
        found = scan_folder(
            roots,
            suffix,
            derivative,
            layout,
            table=table,
            columns=pairs(column, "--column"),
            sex=pairs(sex, "--sex"),
            pattern=pattern,
            echo=echo,
            sessions=visits,
            keep=pair_list(keep, "--keep"),
        )
    notes = found.attrs["notes"]
    if dataset is not None:
        refuse_one_dataset(found, dataset)
    for name, value in (("dataset", dataset), ("site", site)):
        if value is not None:
            found[name] = filled([value], name, notes)[0]
    written = write_manifest(found, out, images="image" in found, overwrite=overwrite)
    absent = [name for name in ("age", "sex", "site") if name not in found]
    others = [str(name) for name in found.columns if name not in COLUMNS]
    if absent and others and not as_table:
        notes.append(
            f"no column of {', '.join(absent)} was found; where {listed(others)} holds one, name it, such as "
            f"--column {absent[0]}={others[0]}"
        )
    notes += _about_diagnosis(found)
    for note in notes:
        say_note(note)
    people = len(found[[name for name in ("dataset", "participant_id") if name in found]].drop_duplicates())
    say(f"{len(found)} scans of {people} participants -> {written}")
    more = f" and {len(found.columns) - 40} more" if len(found.columns) > 40 else ""
    say(f"columns: {', '.join(map(str, found.columns[:40]))}{more}")
    tail = "" if "image" in found else f" --columns '{modality}_*'"
    say(f"next: medssl cohort check {out}{tail}")


def _about_diagnosis(found: pd.DataFrame) -> list[str]:
    """A note where the manifest has no diagnosis, but a column of a few names that is usually called so."""
    likely = [str(name) for name in found.columns if re.sub(r"[^a-z]", "", str(name).lower()) in _DIAGNOSES]
    likely = [name for name in likely if 2 <= found[name].astype(str).replace("", None).nunique() <= _FEW]
    if "diagnosis" in found or not likely:
        return []
    return [
        f"no column diagnosis was found; where {likely[0]} holds it, scan again with --column diagnosis={likely[0]}"
    ]
