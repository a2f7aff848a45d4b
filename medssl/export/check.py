"""Everything that the OpenBHB challenge will do with a submission, done before it is uploaded."""

from __future__ import annotations

import contextlib
import importlib.util
import math
import shutil
import tempfile
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import medssl
from medssl.data.loading.cache import VolumeCache
from medssl.data.manifest.cohort import Cohort
from medssl.data.volumes.openbhb_layout import OPENBHB, BlockTable
from medssl.data.volumes.volume import write_volume
from medssl.encoders.file import read_card
from medssl.errors import UserError
from medssl.export.metadata import Opaque, read_metadata
from medssl.export.openbhb import AGREEMENT, FILES, WIDEST, largest_difference
from medssl.export.process import Limits, run_server
from medssl.export.source import Config, config_of, imported, is_written_by_medssl, read_source
from medssl.export.standin import mask_file, read_rows, stand_in_rows, volumes
from medssl.export.template import BATCH
from medssl.export.textscan import forbidden, too_new
from medssl.features.embed import embed_cohort
from medssl.features.files import sha256
from medssl.files import make_folder, said, write_atomic
from medssl.runs.network import Network, network_of

_REMEDY = "set TMPDIR to another disk"
ROWS = BATCH
"""Rows that are encoded: a full batch, so that the memory is that of the server."""
_STAGES = {
    "import": "estimator.py is imported without medssl and monai",
    "fit": "fit(None, None) restores the weights",
    "none": "predict, indices None",
    "subset": "predict, some indices",
    "range": "predict, indices range",
    "float64": "predict, rows as float64",
}


@dataclass(frozen=True)
class Finding:
    """One check: what was looked at, whether it holds (None: it could not be looked at), and what was seen."""

    what: str
    ok: bool | None
    seen: str = ""


@dataclass
class _Findings:
    """The table that grows."""

    rows: list[Finding] = field(default_factory=list)

    def add(self, what: str, ok: bool | None, seen: str = "") -> None:
        self.rows.append(Finding(what, ok, seen))


def check_submission(
    folder: str | Path,
    run: str | Path | None = None,
    rows: str | Path | None = None,
    *,
    trust: bool = False,
    limits: Limits = Limits(),
    table: BlockTable = OPENBHB,
) -> list[Finding]:
    """All checks of a submission; it is fit to be uploaded where none of them has ``ok`` False.

    run: the run that it was made from, for the agreement with ``medssl embed``. rows: an array of the challenge
    (its first 4 rows are used); without one, random values in a sparse array of the true width. Masks are those of
    the variables VBM_MASK and QUASIRAW_MASK, or else stand-ins of the true voxel counts. table: the rows.

    Nothing is unpickled in this process. estimator.py runs in a process of its own, within ``limits`` and without this
    process's variables, and only where it is letter for letter what this medssl writes, or with ``trust``: such a
    process reads and writes what its user may. Otherwise all checks that need no run are done, and one finding says so.
    Errors: UserError where the folder does not exist or ``rows`` are no rows of the challenge.
    """
    folder = Path(folder).resolve()
    if not folder.is_dir():
        raise UserError(f"{folder} does not exist; make it with `medssl openbhb export RUN -o {folder.name}`")
    x = None if rows is None else read_rows(Path(rows), table)
    found = _Findings()
    text = _text(folder, found)
    if text is None:
        return found.rows
    _metadata(folder, found)
    config = _config(folder, text, table, found)
    if config is None or not _may_run(text, trust, found):
        return found.rows
    with tempfile.TemporaryDirectory(prefix="medssl-check-") as scratch:
        work = _Work(Path(scratch).resolve(), config, table, limits, None if run is None else Path(run))
        _served(_copied(folder, text, work.scratch), x, work, found)
    return found.rows


@dataclass(frozen=True)
class _Work:
    """What a run of the submission needs beside its files."""

    scratch: Path
    config: Config
    table: BlockTable
    limits: Limits
    run: Path | None


def _text(folder: Path, found: _Findings) -> str | None:
    """Files and text of estimator.py; None where there is no text to go on with."""
    held = {p.name for p in folder.iterdir()} - {"__pycache__"}
    absent, more = [name for name in FILES if not (folder / name).is_file()], sorted(held - set(FILES))
    seen = ", ".join([f"{name} is missing" for name in absent] + [f"{name} does not belong there" for name in more])
    found.add("files", not absent and not more, seen or ", ".join(FILES))
    if absent:
        return None
    try:
        text = read_source(folder / FILES[0])
    except UserError as problem:
        found.add("text of estimator.py", False, str(problem))
        return None
    found.add("text scan of the challenge", forbidden(text) is None, forbidden(text) or "no forbidden key word")
    if importlib.util.find_spec("rampwf") is None:
        found.add("ramp-workflow's own text scan", None, "ramp-workflow is not installed")
    else:
        from rampwf.utils.sanitize import _sanitize_input

        verdict = ""
        with contextlib.suppress(RuntimeError):
            verdict = "clean" if _sanitize_input(text) else ""
        found.add("ramp-workflow's own text scan", bool(verdict), verdict or "a forbidden key word")
    found.add("Python 3.8 can read it", too_new(text) is None, too_new(text) or f"{len(text.splitlines())} lines")
    return text


def _metadata(folder: Path, found: _Findings) -> None:
    """Form of metadata.pkl, read without unpickling, and the hashes that it states of the other files."""
    what = "metadata.pkl holds plain values"
    try:
        content = read_metadata(folder / FILES[2])
    except UserError as problem:
        found.add(what, False, str(problem))
        return
    if isinstance(content, Opaque):
        found.add(what, None, f"it holds {content.name:.60}, which is left alone: nothing is unpickled here")
        return
    found.add(what, True, f"written by {content.get('made_by', 'an unnamed program'):.60}")
    hashes = content.get("hashes", {})
    same = all(sha256(folder / name) == hashes.get(name) for name in FILES[:2])
    found.add("files are those of metadata.pkl", same, "" if same else "a file was changed after the export")


def _config(folder: Path, text: str, table: BlockTable, found: _Findings) -> Config | None:
    """CONFIG of estimator.py, read from the text without running it, where it names rows of the challenge."""
    what = "rows of the challenge"
    try:
        config = config_of(text, folder / FILES[0])
    except UserError as problem:
        found.add(what, False, str(problem))
        return None
    if config is None or config["modality"] not in table.names:
        found.add(what, False, "estimator.py has no CONFIG that names a modality of them")
        return None
    span, block = table.span(config["modality"]), table.block(config["modality"])
    stored = config["stored"]
    right = [config["row"], config["start"], config["stop"]] == [table.width, span.start, span.stop]
    right &= math.prod(stored) == block.size if not block.mask_variable else tuple(stored) == block.shape
    right &= len(stored) >= 1 and min(stored, default=0) > 0
    found.add(what, right, f"{config['modality']}: values {config['start']} to {config['stop']}")
    return config if right else None


def _may_run(text: str, trust: bool, found: _Findings) -> bool:
    """Whether the code of estimator.py is run here: medssl's own always, any other on the user's word."""
    what = "its code may run here"
    if is_written_by_medssl(text):
        found.add(what, True, f"all of it is what medssl {medssl.__version__} writes")
        return True
    packages = ", ".join(imported(text)) or "nothing"
    if trust:
        found.add(what, True, f"by --trust: it is not what medssl {medssl.__version__} writes; it imports {packages}")
        return True
    found.add(
        what,
        None,
        f"it was not run, so all checks that need a run were left out: it is not what medssl {medssl.__version__} "
        f"writes (it imports {packages}), and running it lets its author read and change whatever you can on this "
        "machine; read it first, then give --trust",
    )
    return False


def _copied(folder: Path, text: str, scratch: Path) -> Path:
    """A copy of the files that were looked at, which nobody changes while they are used."""
    copy = make_folder(scratch / "submission", _REMEDY)
    for name in FILES[:2]:
        with said(copy / name, _REMEDY):
            shutil.copyfile(folder / name, copy / name)
    if read_source(copy / FILES[0]) != text:
        raise UserError(f"{folder / FILES[0]} was changed while it was checked; check it again")
    return copy


def _served(copy: Path, x: np.ndarray | None, work: _Work, found: _Findings) -> None:
    """Start a process without medssl, let it predict, and judge what came out."""
    table, name, scratch = work.table, work.config["modality"], work.scratch
    if x is None:
        rows = stand_in_rows(table, name, ROWS, scratch / "x.npy")
    else:
        rows = scratch / "x.npy"
        write_atomic(rows, partial(np.save, arr=x[:ROWS]), _REMEDY)
    count = min(ROWS, len(read_rows(rows, table)))
    block, environment, mask = table.block(name), {}, None
    if block.mask_variable:
        mask, invented = mask_file(block, scratch)
        environment[block.mask_variable] = str(mask)
        seen = f"a stand-in of {block.mask_voxels} voxels" if invented else str(mask)
        found.add("mask", None if invented else True, seen)
    subset = [count // 2, 0] if count > 1 else [0]
    job = {"folder": str(copy), "x": str(rows), "subset": subset, "environment": environment}
    report, out = run_server(job, scratch, work.limits)
    _judge(report, out, count, subset, found)
    if work.run is None:
        found.add("agreement with medssl embed", None, "give --run RUN to compare")
    elif "none" in out:
        stored = tuple(work.config["stored"])
        try:
            scans = volumes(read_rows(rows, table), table, name, stored, mask)
            wanted = _embedded(work.run, work.config, scans, block.spacing or 1.0, scratch)
        except UserError as error:  # the encoder of another run cannot even read these scans
            found.add("agreement with medssl embed", False, str(error))
            return
        gap = largest_difference(out["none"], wanted)
        found.add("agreement with medssl embed", gap <= AGREEMENT, f"largest difference {gap:.1e} on {count} rows")
    else:
        found.add("agreement with medssl embed", False, "there are no features to compare")


def _judge(report: dict[str, Any], out: dict[str, np.ndarray], count: int, subset: list[int], found: _Findings) -> None:
    """One finding per stage, then what the arrays must be."""
    stages = list(_STAGES)
    reached = stages.index(report["stage"]) if report.get("stage") in stages else len(stages)
    for i, stage in enumerate(stages):
        seen = f"{report[f'seconds_{stage}']:.1f} s" if f"seconds_{stage}" in report else ""
        if i == reached:
            seen = str(report.get("error", "it did not come to an end"))
        found.add(_STAGES[stage], i < reached, seen if i <= reached else "not reached")
    if not out:
        return
    found.add("fit returns the estimator", bool(report.get("fit_returns_self")))
    steps, blocked = report.get("steps_with_indices", 0), report.get("blocked", [])
    found.add("a step has indices", steps > 0, f"{steps} of them")
    found.add("medssl and monai stayed out", not blocked, ", ".join(blocked))
    shapes = {"none": count, "subset": len(subset), "range": count, "float64": 1}
    good = all(out[k].ndim == 2 and len(out[k]) == n for k, n in shapes.items())
    found.add("shapes", good, ", ".join(f"{k} {' x '.join(map(str, out[k].shape))}" for k in shapes))
    if not good:
        return
    found.add("numbers are finite", all(v.dtype.kind == "f" and np.isfinite(v).all() for v in out.values()))
    width = out["none"].shape[1]
    found.add(f"at most {WIDEST} features", width <= WIDEST, f"{width} features")
    found.add("the same twice", np.array_equal(out["none"], out["range"]))
    for key, rows, what in (("subset", subset, "indices are honoured"), ("float64", [0], "float64 rows give the same")):
        gap = largest_difference(out[key], out["none"][rows])
        found.add(what, gap <= AGREEMENT, f"largest difference {gap:.1e}")
    if report.get("peak_mb"):
        found.add("memory", True, f"{report['peak_mb']:.0f} MB at most, {count} rows in a batch")


def _embedded(run: Path, config: Config, scans: np.ndarray, spacing: float, scratch: Path) -> np.ndarray:
    """The features that ``medssl embed`` gives for the same scans as files or, for tables, as columns."""
    network: Network = network_of(run, config["head"] is not None)
    card = read_card(run)
    names, places = (
        (card.get("columns") or {}).get("names", []),
        config["columns"]["places"] if config["columns"] else [],
    )
    if len(names) != len(places):
        raise UserError(f"{run} reads {len(names)} columns, estimator.py {len(places)}; give the run it was made from")
    if names:
        return _of_columns(network, card["columns"], places, scans)
    lines = ["participant_id,image"]
    for i, x_CDHW in enumerate(scans):
        if spacing == 1.0:
            write_atomic(scratch / f"scan-{i}.npy", partial(np.save, arr=x_CDHW), _REMEDY)
        else:
            write_volume(scratch / f"scan-{i}.nii", x_CDHW, np.diag([spacing, spacing, spacing, 1.0]))
        lines.append(f"scan-{i},scan-{i}.{'npy' if spacing == 1.0 else 'nii'}")
    write_atomic(scratch / "manifest.csv", "\n".join(lines) + "\n", _REMEDY)
    made = embed_cohort(
        network.encoder,
        Cohort.read(scratch / "manifest.csv"),
        network.preprocessing,
        scratch / "features.npz",
        provenance={"run": str(run)},
        head=network.head,
        clean=network.clean,
        cache=VolumeCache(scratch / "cache"),
        progress=False,
    )
    return made.values


def _of_columns(network: Network, columns: dict[str, Any], places: list[int], scans: np.ndarray) -> np.ndarray:
    """What the encoder gives for regional measures, standardised by the statistics of its own card."""
    if not all(0 <= place < scans[0].size for place in places):
        raise UserError(f"estimator.py reads columns beyond the {scans[0].size} values of a row; export it again")
    values_NF = scans.reshape(len(scans), -1)[:, places].astype(np.float64)
    z_NF = (values_NF - np.array(columns["mean"])) / np.array(columns["sd"])
    x = torch.from_numpy(z_NF.astype(np.float32)).reshape(len(scans), 1, -1, 1, 1)
    with torch.no_grad():
        h_NE = network.encoder.eval()(torch.stack([network.clean(one) for one in x])).pooled
        out: np.ndarray = (h_NE if network.head is None else network.head(h_NE)).numpy()
    return out
