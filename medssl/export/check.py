"""Everything that the OpenBHB challenge will do with a submission, done before it is uploaded."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medssl.data.blocks import OPENBHB, BlockTable
from medssl.data.cache import VolumeCache
from medssl.data.manifest import Cohort
from medssl.data.volume import write_volume
from medssl.encoders.file import read_card
from medssl.errors import UserError
from medssl.export import server
from medssl.export.openbhb import AGREEMENT, FILES, WIDEST, largest_difference
from medssl.export.standin import mask_file, read_rows, stand_in_rows, volumes
from medssl.export.template import BATCH
from medssl.export.textscan import forbidden, too_new
from medssl.features.embed import embed_cohort
from medssl.network import Network, network_of

ROWS = BATCH
"""Rows that are encoded: a full batch, so that the memory is that of the server."""
_STAGES = {
    "metadata": "metadata.pkl is read by pandas",
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
    table: BlockTable = OPENBHB,
) -> list[Finding]:
    """All checks of a submission; it is fit to be uploaded where none of them has ``ok`` False.

    run: the run that it was made from, for the agreement with ``medssl embed``. rows: an array of the challenge
    (its first 4 rows are used); without one, random values in a sparse array of the true width. Masks are those of
    the variables VBM_MASK and QUASIRAW_MASK, or else stand-ins of the true voxel counts. table: the rows.
    Errors: UserError where the folder does not exist or ``rows`` are no rows of the challenge.
    """
    folder = Path(folder).resolve()
    if not folder.is_dir():
        raise UserError(f"{folder} does not exist; make it with `medssl openbhb export RUN -o {folder.name}`")
    found = _Findings()
    if not _text(folder, found):
        return found.rows
    with tempfile.TemporaryDirectory(prefix="medssl-check-") as scratch:
        _served(folder, Path(run) if run else None, Path(rows) if rows else None, table, Path(scratch), found)
    return found.rows


def _text(folder: Path, found: _Findings) -> bool:
    """Files and text; False where there is no text to go on with."""
    held = {p.name for p in folder.iterdir()} - {"__pycache__"}
    absent, more = [name for name in FILES if name not in held], sorted(held - set(FILES))
    seen = ", ".join([f"{name} is missing" for name in absent] + [f"{name} does not belong there" for name in more])
    found.add("files", not absent and not more, seen or ", ".join(FILES))
    if absent:
        return False
    text = (folder / FILES[0]).read_text(encoding="utf-8", errors="replace")
    found.add("text scan of the challenge", forbidden(text) is None, forbidden(text) or "no forbidden key word")
    if importlib.util.find_spec("rampwf") is None:
        found.add("ramp-workflow's own text scan", None, "ramp-workflow is not installed")
    else:
        from rampwf.utils.sanitize import _sanitize_input

        said = ""
        with contextlib.suppress(RuntimeError):
            said = "clean" if _sanitize_input(text) else ""
        found.add("ramp-workflow's own text scan", bool(said), said or "a forbidden key word")
    found.add("Python 3.8 can read it", too_new(text) is None, too_new(text) or f"{len(text.splitlines())} lines")
    return True


def _served(
    folder: Path, run: Path | None, rows: Path | None, table: BlockTable, scratch: Path, found: _Findings
) -> None:
    """Start a process without medssl, let it predict, and judge what came out."""
    name = _modality(folder, table)
    if name is None:
        found.add("rows of the challenge", False, "estimator.py has no CONFIG that names a modality of them")
        return
    x = rows if rows is not None else stand_in_rows(table, name, ROWS, scratch / "x.npy")
    count = min(ROWS, len(read_rows(x, table)))
    block, environment, mask = table.block(name), {}, None
    if block.mask_variable:
        mask, invented = mask_file(block, scratch)
        environment[block.mask_variable] = str(mask)
        seen = f"a stand-in of {block.mask_voxels} voxels" if invented else str(mask)
        found.add("mask", None if invented else True, seen)
    subset = [count // 2, 0] if count > 1 else [0]
    job = {"folder": str(folder), "x": str(x.resolve()), "rows": count, "subset": subset, "environment": environment}
    said, out = _start(job, scratch)
    _judge(said, out, folder, count, subset, table, name, found)
    if run is None:
        found.add("agreement with medssl embed", None, "give --run RUN to compare")
    elif "none" in out:
        stored = tuple(said["config"]["stored"])
        scans = volumes(read_rows(x, table)[:count], table, name, stored, mask)
        try:
            wanted = _embedded(run, said["config"], scans, block.spacing or 1.0, scratch)
        except UserError as error:  # the encoder of another run cannot even read these scans
            found.add("agreement with medssl embed", False, str(error))
            return
        gap = largest_difference(out["none"], wanted)
        found.add("agreement with medssl embed", gap <= AGREEMENT, f"largest difference {gap:.1e} on {count} rows")
    else:
        found.add("agreement with medssl embed", False, "there are no features to compare")


def _start(job: dict[str, Any], scratch: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What the process said, and the arrays that it made."""
    job |= {"report": str(scratch / "report.json"), "results": str(scratch / "results.npz")}
    (scratch / "job.json").write_text(json.dumps(job))
    command = [sys.executable, "-I", "-B", str(Path(server.__file__).resolve()), str(scratch / "job.json")]
    done = subprocess.run(command, cwd=scratch, capture_output=True, text=True)
    report = Path(job["report"])
    if not report.is_file():
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        return {"stage": "metadata", "error": f"the process ended: {last}"}, {}
    said: dict[str, Any] = json.loads(report.read_text())
    if "error" in said or not Path(job["results"]).is_file():
        return said, {}
    with np.load(job["results"], allow_pickle=False) as arrays:
        return said, {key: arrays[key] for key in arrays.files}


def _judge(
    said: dict[str, Any],
    out: dict[str, np.ndarray],
    folder: Path,
    count: int,
    subset: list[int],
    table: BlockTable,
    name: str,
    found: _Findings,
) -> None:
    """One finding per stage, then what the arrays must be."""
    stages = list(_STAGES)
    reached = stages.index(said["stage"]) if said.get("stage") in stages else len(stages)
    for i, stage in enumerate(stages):
        seen = f"{said[f'seconds_{stage}']:.1f} s" if f"seconds_{stage}" in said else ""
        if i == reached:
            seen = str(said.get("error", "it did not come to an end"))
        found.add(_STAGES[stage], i < reached, seen if i <= reached else "not reached")
    span = table.span(name)
    if "metadata" in said:
        hashes = said["metadata"]["hashes"]
        good = all(hashlib.sha256((folder / f).read_bytes()).hexdigest() == hashes.get(f) for f in FILES[:2])
        found.add("files are those of metadata.pkl", good, "" if good else "a file was changed after the export")
    if said.get("config"):
        config = said["config"]
        good = [config.get(k) for k in ("row", "start", "stop")] == [table.width, span.start, span.stop]
        found.add("rows of the challenge", good, f"{name}: values {config.get('start')} to {config.get('stop')}")
    if not out:
        return
    found.add("fit returns the estimator", bool(said["fit_returns_self"]))
    found.add("a step has indices", said["steps_with_indices"] > 0, f"{said['steps_with_indices']} of them")
    found.add("medssl and monai stayed out", not said["blocked"], ", ".join(said["blocked"]))
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
    if said.get("peak_mb"):
        found.add("memory", True, f"{said['peak_mb']:.0f} MB at most, {count} rows in a batch")


def _modality(folder: Path, table: BlockTable) -> str | None:
    """The modality that estimator.py names in its CONFIG, read from the text without running it."""
    import ast

    try:
        tree = ast.parse((folder / FILES[0]).read_text(encoding="utf-8"))
        for node in tree.body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "CONFIG":
                name = dict(ast.literal_eval(node.value)).get("modality")
                return name if name in table.names else None
    except (SyntaxError, ValueError, TypeError):
        pass
    return None


def _embedded(run: Path, config: dict[str, Any], scans: np.ndarray, spacing: float, scratch: Path) -> np.ndarray:
    """The features that ``medssl embed`` gives for the same scans as files or, for tables, as columns."""
    network: Network = network_of(run, config["head"] is not None)
    card = read_card(run)
    names, places = (card.get("columns") or {}).get("names", []), (config["columns"] or {}).get("places", [])
    if len(names) != len(places):
        raise UserError(f"{run} reads {len(names)} columns, estimator.py {len(places)}; give the run it was made from")
    if names:
        return _of_columns(network, card["columns"], config, scans)
    lines = ["participant_id,image"]
    for i, x_CDHW in enumerate(scans):
        if spacing == 1.0:
            np.save(scratch / f"scan-{i}.npy", x_CDHW)
        else:
            write_volume(scratch / f"scan-{i}.nii", x_CDHW, np.diag([spacing, spacing, spacing, 1.0]))
        lines.append(f"scan-{i},scan-{i}.{'npy' if spacing == 1.0 else 'nii'}")
    (scratch / "manifest.csv").write_text("\n".join(lines) + "\n")
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


def _of_columns(network: Network, columns: dict[str, Any], config: dict[str, Any], scans: np.ndarray) -> np.ndarray:
    """What the encoder gives for regional measures, standardised by the statistics of its own card."""
    values_NF = scans.reshape(len(scans), -1)[:, config["columns"]["places"]].astype(np.float64)
    z_NF = (values_NF - np.array(columns["mean"])) / np.array(columns["sd"])
    x = torch.from_numpy(z_NF.astype(np.float32)).reshape(len(scans), 1, -1, 1, 1)
    with torch.no_grad():
        h_NE = network.encoder.eval()(torch.stack([network.clean(one) for one in x])).pooled
        out: np.ndarray = (h_NE if network.head is None else network.head(h_NE)).numpy()
    return out
