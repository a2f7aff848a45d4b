"""A cohort of synthetic T1w brains with known age, sex and scanner effects, written as NIfTI with its truth.

Everything is a function of the seed: one generator draws the sites and who is scanned where at what age, and one
generator per scan (seed, number of the scan) draws the person and the visit. So the bytes of every file are the
same for any number of workers. Anatomy: `anatomy`; scanners: `scanner`.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd

from medssl.checks import Count, Flag, Fraction, Interval, Processes, Seed, Spacing, checked
from medssl.data.synthetic.anatomy import draw_person, grow
from medssl.data.synthetic.design import design
from medssl.data.synthetic.mark import NAME
from medssl.data.synthetic.scanner import BIAS_TERMS, Site, acquire, draw_visit
from medssl.data.synthetic.template import CENTRE_MNI_MM, FIELD_OF_VIEW_MM, REGIONS, Floats, load_template
from medssl.data.volumes.volume import write_volume
from medssl.errors import UserError
from medssl.progress.steps import tracked

VERSION = 1
"""Raised when the same arguments give other bytes than before."""
FILES = ("images", "manifest.csv", "truth.csv", "sites.csv", "dataset_description.json")
_STREAM = 2
"""Second number of the seed of a scan; the design of the cohort has 1."""


@dataclass(frozen=True)
class Grid:
    """The voxel grid that all scans of a cohort share; anatomy is drawn `factor` times finer and averaged."""

    shape: tuple[int, int, int]
    spacing: float
    factor: int

    @property
    def fine_mm(self) -> float:
        """Spacing of the fine grid in mm, at most 2."""
        return self.spacing / self.factor

    @property
    def affine(self) -> Floats:
        """(4, 4) voxel -> mm in RAS; about MNI space."""
        affine = np.diag([self.spacing, self.spacing, self.spacing, 1.0])
        affine[:3, 3] = [c - self.spacing * (n - 1) / 2 for c, n in zip(CENTRE_MNI_MM, self.shape, strict=True)]
        return affine

    def fine_axes(self) -> tuple[Floats, Floats, Floats]:
        """Positions (mm around the centre) of the fine voxels along each axis."""
        x, y, z = ((np.arange(n * self.factor) - (n * self.factor - 1) / 2) * self.fine_mm for n in self.shape)
        return x, y, z


def grid_for(spacing: float) -> Grid:
    """The smallest grid with sides of a multiple of 8 voxels that holds a head: 40 x 48 x 40 at 4 mm."""
    x, y, z = (int(np.ceil(np.floor(extent / spacing) / 8) * 8) for extent in FIELD_OF_VIEW_MM)
    return Grid((x, y, z), spacing, int(np.ceil(spacing / 2.0)))


@checked
def synthesize(
    out: str | Path,
    *,
    subjects: Count = 300,
    sites: Count = 10,
    seed: Seed = 0,
    spacing: Spacing = 4.0,
    confounding: Fraction = 0.0,
    external_fraction: Fraction = 0.2,
    internal_fraction: Annotated[float, Interval(0, 0.9)] = 0.2,
    overwrite: Flag = False,
    progress: Flag = True,
    workers: Processes | None = None,
) -> Path:
    """Write a synthetic cohort into the folder `out` and return the path of its manifest.

    subjects, sites: numbers of persons (one scan each) and of scanners. spacing: voxel size in mm, 1 to 8.
    confounding: 0 gives every site the same age distribution, 1 strongly different mean ages.
    external_fraction: share of the sites whose scans are all "external_test" (at least one site where there are
    three, at least one site stays). internal_fraction: share of the scans of each other site that are
    "internal_test"; the rest is "train". workers: threads, default one per CPU.

    Files: images/sub-0001_T1w.nii.gz, ... (int16, skull-stripped, background 0), manifest.csv, truth.csv (the true
    parameters of each scan), sites.csv, dataset_description.json. Same arguments, same bytes. A folder that holds
    the same cohort is used again; another synthetic cohort is replaced only with `overwrite`. Errors: UserError
    for an impossible argument, a folder with other content, or a folder that cannot be written.
    """
    out = Path(out)
    if sites > subjects:
        raise UserError(
            f"sites={sites} is more than subjects={subjects}, but every site scans somebody; "
            "lower sites or raise subjects"
        )
    arguments = {
        "subjects": int(subjects),
        "sites": int(sites),
        "seed": int(seed),
        "spacing": float(spacing),
        "confounding": float(confounding),
        "external_fraction": float(external_fraction),
        "internal_fraction": float(internal_fraction),
    }
    plan, scanners = design(subjects, sites, seed, confounding, external_fraction, internal_fraction)
    texts = {
        "manifest.csv": _csv(plan),
        "sites.csv": _csv(pd.DataFrame([_flat(asdict(scanner)) for scanner in scanners])),
        "dataset_description.json": json.dumps(_description(arguments), indent=2) + "\n",
    }
    if _is_there(out, plan, texts, overwrite):
        return out / "manifest.csv"
    work = out.parent / f".{out.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp"
    try:
        work.mkdir(parents=True)
        truth = _scan_all(work, plan, scanners, seed, grid_for(float(spacing)), progress, workers)
        for name, text in {**texts, "truth.csv": _csv(truth)}.items():
            (work / name).write_text(text, encoding="utf-8", newline="\n")
        _move_in(work, out)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise UserError(
            f"the cohort cannot be written to {out} ({reason}); free some space or choose another folder"
        ) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return out / "manifest.csv"


# --- scans ------------------------------------------------------------------------------------------------------


def _scan_all(
    folder: Path,
    plan: pd.DataFrame,
    scanners: list[Site],
    seed: int,
    grid: Grid,
    progress: bool,
    workers: int | None,
) -> pd.DataFrame:
    """Write all images; the table of true parameters in the order of the plan."""
    (folder / "images").mkdir()
    load_template(grid.fine_mm)
    truth: list[dict[str, object]] = [{} for _ in range(len(plan))]
    pool = ThreadPoolExecutor(max_workers=workers or os.cpu_count() or 1)
    try:
        jobs = {pool.submit(scan_one, folder, plan, scanners, seed, grid, row): row for row in range(len(plan))}
        for job in tracked(as_completed(jobs), "scanning", len(jobs), progress):
            truth[jobs[job]] = job.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return pd.DataFrame(truth)


def scan_one(
    folder: Path, plan: pd.DataFrame, scanners: list[Site], seed: int, grid: Grid, row: int
) -> dict[str, object]:
    """Draw, scan and write the person in one row of the plan; the true parameters of the scan."""
    known = plan.iloc[row]
    rng = np.random.default_rng([seed, _STREAM, row])
    site = next(s for s in scanners if s.name == known["site"])
    person = draw_person(rng, float(known["age"]), str(known["sex"]))
    visit = draw_visit(rng, site)
    head = grow(
        person,
        load_template(grid.fine_mm),
        grid.fine_axes(),
        np.asarray(visit.rotation_deg),
        np.asarray(visit.shift_mm),
    )
    write_volume(folder / known["image"], acquire(head, site, visit, grid.fine_mm, grid.factor), grid.affine)
    identity = {name: known[name] for name in ("participant_id", "age", "sex", "site", "split")}
    anatomy = {**asdict(person), "effective_age": person.effective_age, "anatomy_seed": person.seed}
    scanning = {**asdict(visit), "noise_seed": visit.seed}
    measured = {f"{name}_ml": volume for name, volume in head.volumes_ml.items()}
    truth = {**identity, **_flat({**anatomy, **measured, **scanning})}
    del truth["seed"]
    return truth


# --- files ------------------------------------------------------------------------------------------------------


def _flat(record: dict[str, Any]) -> dict[str, object]:
    """A record with tuples spread over columns: scale_xyz -> scale_x, scale_y, scale_z; grey_loss -> one per region."""
    ends = {
        "xyz": "xyz",
        "deg": "xyz",
        "mm": "xyz",
        "loss": list(REGIONS),
        "pattern": range(1, BIAS_TERMS + 1),
    }
    flat: dict[str, object] = {}
    for name, value in record.items():
        if not isinstance(value, tuple):
            flat[name] = value
            continue
        stem, _, kind = name.rpartition("_")
        middle = stem if kind == "xyz" else name
        for end, part in zip(ends[kind], value, strict=True):
            flat[f"{middle}_{end}"] = part
    return flat


def _csv(table: pd.DataFrame) -> str:
    return table.to_csv(index=False, float_format="%.6g", lineterminator="\n")


def _description(arguments: dict[str, Any]) -> dict[str, Any]:
    return {
        "Name": NAME,
        "GeneratorVersion": VERSION,
        "Arguments": arguments,
        "Description": (
            "Synthetic T1w brains: anatomy follows age plus an individual brain-age offset, scanners differ by site. "
            "manifest.csv is what a study would know, truth.csv the true parameters of each scan, sites.csv those of "
            "each scanner. Ages in years, lengths in mm, volumes in ml. No real person is shown."
        ),
        "Source": (
            "ICBM 152 2009a nonlinear symmetric T1, GM and WM maps as shipped in nilearn; "
            "copyright 1993-2009 Louis Collins, McConnell Brain Imaging Centre, Montreal Neurological Institute, "
            "McGill University (free use, copy, modification and distribution)"
        ),
    }


def _is_there(out: Path, plan: pd.DataFrame, texts: dict[str, str], overwrite: bool) -> bool:
    """Whether `out` holds this very cohort; UserError where it holds anything else that may not be replaced."""
    if not out.exists():
        return False
    if not out.is_dir():
        raise UserError(f"{out} is a file, but the cohort needs a folder; choose another name")
    names = {entry.name for entry in out.iterdir()}
    if not names:
        return False
    found = {name: _text(out / name) for name in texts}
    complete = (out / "truth.csv").is_file() and all((out / image).is_file() for image in plan["image"])
    if complete and found == texts:
        return True
    ours = f'"{NAME}"' in found["dataset_description.json"]
    if not ours or names - set(FILES):
        stranger = sorted(names - set(FILES))[:1] or sorted(names)[:1]
        raise UserError(
            f"{out} holds {stranger[0]}, which is no part of a synthetic cohort; choose a new or an empty folder"
        )
    if not overwrite:
        raise UserError(
            f"{out} holds a synthetic cohort made with other arguments; choose another folder, or overwrite it"
        )
    return False


def _text(path: Path) -> str:
    """Content of a small text file; empty where there is none."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _move_in(work: Path, out: Path) -> None:
    """Rename the finished folder to its place; what stood there goes first aside, then away."""
    if not out.exists():
        work.rename(out)
        return
    aside = work.with_name(work.name + ".old")
    out.rename(aside)
    try:
        work.rename(out)
    except OSError:
        aside.rename(out)
        raise
    shutil.rmtree(aside, ignore_errors=True)
