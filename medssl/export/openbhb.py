"""A run as a submission to the OpenBHB challenge: estimator.py, weights.pth and metadata.pkl."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pickle
import secrets
import shutil
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import medssl
from medssl.data.volumes.openbhb_layout import OPENBHB, BlockTable
from medssl.data.volumes.preprocess import Preprocessing
from medssl.encoders.file import read_card
from medssl.errors import UserError
from medssl.export.template import ENCODERS, MARK, estimator_source
from medssl.export.textscan import forbidden, too_new
from medssl.files import make_folder, write_atomic
from medssl.heads.mlp import MLP
from medssl.heads.weights import weights_of
from medssl.runs.folder import Run
from medssl.runs.modality import check_input, columns_of, modality_of, stored_shape
from medssl.runs.network import Network, network_of
from medssl.views.policies import build_policy

FILES = ("estimator.py", "weights.pth", "metadata.pkl")
"""What is uploaded."""
WIDEST = 10_000
"""Most features per scan that the challenge takes (problem.py)."""
AGREEMENT = 1e-5
"""Largest difference to medssl, as a share of the largest feature where that is above 1."""


def export_openbhb(
    run: str | Path,
    out: str | Path,
    *,
    features: str = "h",
    modality: str | None = None,
    table: BlockTable = OPENBHB,
) -> Path:
    """Write the submission of a run; returns its folder, which appears whole or not at all.

    run: a finished run folder or an encoder file. features: "h" of the encoder or "z" of the projection head.
    modality: the block of the challenge's rows that is read; needed where the manifest of the run does not tell.
    table: the rows. Errors: UserError where the run is not finished, has no projector for z, another modality or more
    than 10,000 features, or an encoder that cannot be rebuilt; and where ``out`` holds something else.
    """
    run, out = Path(run), Path(out)
    _refuse_target(out)
    network = _network(run, features)
    card = read_card(Run(run).encoder if run.is_dir() else run)
    name, known = modality_of(card, modality, run)
    columns = columns_of(card, table.block(name), run)
    if columns is None:
        check_input(table, name, card["encoder"], network.preprocessing, run)
    config = configuration(network, card, table, name, columns)
    if config["features"] > WIDEST:
        raise UserError(
            f"{run} gives {config['features']} features ({features}), but the challenge takes at most {WIDEST}; export "
            "a narrower one (--features), or train with a smaller encoder.width or projector"
        )
    source = estimator_source(config)
    assert forbidden(source) is None, forbidden(source)
    assert too_new(source) is None, too_new(source)
    parts = {"encoder": network.encoder} | ({"head": network.head.projector} if network.head is not None else {})
    weights = {f"{part}.{key}": value for part, module in parts.items() for key, value in weights_of(module).items()}  # type: ignore[arg-type]
    make_folder(out.parent)
    draft = out.with_name(f".{out.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        write_atomic(draft / FILES[0], source)
        write_atomic(draft / FILES[1], partial(torch.save, {"model": weights}))
        _compare(draft, network, config, run)
        about = _about(draft, network, card, config) | {"features": features, "modality_known_from": known}
        write_atomic(draft / FILES[2], pickle.dumps(about, protocol=4))
        _put(draft, out)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return out


def configuration(
    network: Network, card: Mapping[str, Any], table: BlockTable, name: str, columns: Mapping[str, Any] | None
) -> dict[str, Any]:
    """What estimator.py needs to know beside the weights, as plain values; columns: see ``columns_of``."""
    block, span, prep = table.block(name), table.span(name), network.preprocessing
    stored = stored_shape(block, card["encoder"]) if columns is None else block.shape
    shape = prep.output_shape(stored[1:], [block.spacing or 1.0] * 3)
    spacing = block.spacing or 1.0
    head, normalise, width = _head(network)
    slots = build_policy(card.get("recipe", {}).get("views", {}).get("policy", "none")).slots
    zscores = [slot.transform for slot in slots if slot.p == 1.0 and slot.transform.name == "zscore"]
    return {
        "modality": name,
        "row": table.width,
        "start": span.start,
        "stop": span.stop,
        "stored": list(stored),
        "mask_variable": block.mask_variable,
        "mask_above": block.mask_above,
        "ratio": ratio(prep, spacing),
        "shape": list(shape) if columns is None else [len(columns["places"]), 1, 1],
        "columns": columns,
        "intensity": prep.intensity,
        "mask": prep.mask,
        "zscores": [{"foreground": z.foreground, "per_channel": z.per_channel} for z in zscores],  # type: ignore[attr-defined]
        "encoder": dict(card["encoder"]),
        "head": head,
        "normalise": normalise,
        "features": width,
    }


def ratio(prep: Preprocessing, spacing: float) -> list[float]:
    """New over stored voxel size, per axis."""
    return [float(new) / spacing for new in prep.spacing or (spacing,) * 3]


def load_submission(folder: Path) -> Any:
    """estimator.py as a module, as the challenge's server imports it: from its file, not entered in sys.modules."""
    spec = importlib.util.spec_from_file_location("submission", folder / FILES[0])
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # the folder holds what is submitted, nothing else
    try:
        spec.loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = before
    return module


def largest_difference(a_NF: np.ndarray, b_NF: np.ndarray) -> float:
    """Largest difference, as a share of the largest value of ``b_NF`` where that is above 1."""
    if a_NF.shape != b_NF.shape:
        return float("inf")
    gap = np.abs(a_NF.astype(np.float64) - b_NF.astype(np.float64)).max(initial=0.0)
    return float(gap / max(1.0, float(np.abs(b_NF).max(initial=0.0))))


def _network(run: Path, features: str) -> Network:
    """Encoder and, for z, head; UserError where one of them is missing or cannot be exported."""
    if features not in ("h", "z"):
        raise UserError(f"features '{features}' must be h (encoder) or z (projection head)")
    if run.is_dir() and Run(run).read_info().get("state") != "finished":
        raise UserError(f"{run} is not finished, so it cannot be exported; go on with `medssl pretrain --resume {run}`")
    head = Run(run if run.is_dir() else run.parent).projection
    if features == "z" and run.exists() and not head.is_file():
        raise UserError(f"{run} has no projection head, so there is no z; export it with --features h")
    network = network_of(run, features == "z")
    name = network.encoder.spec["name"]  # type: ignore[index]
    if name not in ENCODERS:
        raise UserError(
            f"{run} has the encoder '{name}', which cannot be exported as plain PyTorch; train one of "
            f"{', '.join(sorted(ENCODERS))}"
        )
    return network


def _head(network: Network) -> tuple[dict[str, Any] | None, bool, int]:
    """How the head is built again, whether its output is L2-normalised, and the width of the features."""
    if network.head is None:
        return None, False, int(network.encoder.dim)  # type: ignore[arg-type]
    projector, normalise = network.head.projector, bool(network.head.normalise)
    if isinstance(projector, MLP):
        return {"kind": "mlp", **projector.spec}, normalise, int(projector.dims[-1])
    width = int(projector.out_features)  # type: ignore[union-attr, arg-type]
    return {"kind": "linear", "dims": [int(projector.in_features), width]}, normalise, width  # type: ignore[union-attr, arg-type]


def _compare(draft: Path, network: Network, config: Mapping[str, Any], run: Path) -> None:
    """UserError unless the rebuilt network, with its written weights, gives what medssl's gives."""
    module = load_submission(draft)
    rebuilt = module.restored(module.CONFIG)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn((1, config["encoder"]["in_channels"], *config["shape"]), generator=generator)
    with torch.no_grad():
        wanted = network.encoder.cpu().eval()(x).pooled
        wanted = wanted if network.head is None else network.head.cpu().eval()(wanted)
        gap = largest_difference(rebuilt(x).numpy(), wanted.numpy())
    if not gap <= AGREEMENT:
        raise UserError(
            f"{run} cannot be exported: the rebuilt {config['encoder']['name']} differs from it by {gap:.2g}, more "
            f"than {AGREEMENT:g}; report its recipe"
        )


def _about(draft: Path, network: Network, card: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """Content of metadata.pkl: plain values."""
    training = {k: v for k, v in card.get("training", {}).items() if k != "manifests"}
    hashes = dict(card.get("hashes", {})) | {"encoder": network.digest}
    for file in FILES[:2]:
        hashes[file] = hashlib.sha256((draft / file).read_bytes()).hexdigest()
    return {
        "what": "OpenBHB challenge submission: features of brain scans, no label is read",
        "made_by": f"medssl {medssl.__version__}",
        "method": card.get("method"),
        "modality": config["modality"],
        "width": config["features"],
        "configuration": dict(config),
        "preprocessing": network.preprocessing.to_dict(),
        "training": training,
        "licence": card.get("licence", "not stated"),
        "versions": dict(card.get("versions", {})),
        "hashes": hashes,
    }


def _refuse_target(out: Path) -> None:
    """UserError unless ``out`` is absent, empty, or an earlier submission that may be replaced."""
    if out.is_file() or out.is_symlink():
        raise UserError(f"{out} is a file; give a folder that does not exist yet")
    if not out.is_dir():
        return
    held = {p.name for p in out.iterdir()} - {"__pycache__"}
    first = out / FILES[0]
    ours = first.is_file() and first.read_text(encoding="utf-8", errors="replace").startswith(f'"""{MARK}')
    other = sorted(held - set(FILES)) if ours else sorted(held)
    if other:
        raise UserError(f"{out} holds something else already ({other[0]}); give a folder that does not exist yet")


def _put(draft: Path, out: Path) -> None:
    """Give the finished folder its name; an earlier submission goes."""
    shutil.rmtree(draft / "__pycache__", ignore_errors=True)
    old = draft.with_name(draft.name.replace(".tmp", ".old"))
    if out.is_dir():
        os.rename(out, old)
    os.rename(draft, out)
    shutil.rmtree(old, ignore_errors=True)
