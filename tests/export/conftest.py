"""Small rows of the challenge, runs without a training, and what a submission makes of the rows."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from medssl import stages
from medssl.data.volumes.openbhb_layout import Block, BlockTable
from medssl.data.volumes.volume import write_volume
from medssl.encoders import build_encoder
from medssl.encoders.file import save_encoder
from medssl.export.openbhb import load_submission
from medssl.export.standin import stand_in_mask, stand_in_rows, volumes
from medssl.heads.file import save_head
from medssl.heads.mlp import MLP

TABLE = BlockTable(
    (
        Block("vbm", (1, 18, 21, 18), 1.5, "VBM_MASK", 0.05, 2501),
        Block("quasiraw", (1, 20, 22, 19), 1.0, "QUASIRAW_MASK", 0.0, 3003),
        Block("xhemi", (8, 5, 1, 1)),
        Block("vbm_roi", (1, 6, 1, 1)),
        Block("desikan_roi", (7, 4, 1, 1)),
        Block("destrieux_roi", (7, 3, 1, 1)),
    )
)
SMALL = {"name": "resnet18", "width": 4, "depth": [1, 1], "norm": "batch", "stem": "small"}
PLAIN = {"spacing": None, "shape": None, "intensity": "zscore", "mask": "nonzero"}


def _head() -> MLP:
    """A projection whose weights depend on nothing that was drawn before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return MLP((8, 6, 5), norm="batch")


HEAD = _head()


@pytest.fixture
def masks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Masks of the small rows with holes, as the server's variables name them."""
    found = {}
    for block in TABLE.blocks[:2]:
        values = stand_in_mask(block)
        inside = np.argwhere(values > block.mask_above)
        edge = np.argwhere(values <= block.mask_above)
        for k in range(3):  # enclosed voxels outside the mask, others instead
            values[tuple(inside[len(inside) // 2 + 40 * k])] = block.mask_above / 2
            values[tuple(edge[k])] = block.mask_above + 0.5
        found[block.name] = tmp_path / f"{block.name}.nii.gz"
        write_volume(found[block.name], values, np.diag([-1.0, 1.0, 1.0, 1.0]))
        monkeypatch.setenv(block.mask_variable, str(found[block.name]))
    return found


@pytest.fixture
def x_NV(tmp_path: Path) -> np.ndarray:
    """Five rows, all blocks filled; some values inside the masks are 0."""
    x = np.zeros((5, TABLE.width), np.float32)
    for k, name in enumerate(TABLE.names):
        x += np.load(stand_in_rows(TABLE, name, 5, tmp_path / "part.npy", seed=k))
    x[:, ::17] = 0
    np.save(tmp_path / "x.npy", x)
    return np.load(tmp_path / "x.npy", mmap_mode="r")


def trained_like(module: nn.Module, seed: int = 0) -> nn.Module:
    """A copy whose weights and running statistics are not those of a start."""
    module = copy.deepcopy(module)
    generator = torch.Generator().manual_seed(seed)
    for name, value in module.state_dict().items():
        if value.is_floating_point():
            noise = torch.randn(value.shape, generator=generator)
            value.copy_(noise.abs() + 0.5 if name.endswith("running_var") else value + 0.1 * noise)
    return module.eval()


def make_run(
    folder: Path,
    modality: str = "quasiraw",
    spec: dict[str, Any] | None = None,
    prep: dict[str, Any] | None = None,
    *,
    policy: Any = "robust",
    head: nn.Module | None = HEAD,
    normalise: bool = True,
    state: str = "finished",
    cells: Sequence[str] | None = None,
    layout: Sequence[int] | None = None,
    columns: dict[str, Any] | None = None,
) -> Path:
    """A run folder as pretrain leaves it: encoder with its card, projection, run.json, a manifest of that modality."""
    folder.mkdir(parents=True)
    block, prepared = TABLE.block(modality), {**PLAIN, **(prep or {})}
    size = block.shape if layout is None else (1, *layout)
    if prepared["shape"] is not None:
        size = (size[0], *prepared["shape"])
    elif prepared["spacing"] is not None:
        size = (
            size[0],
            *[round(n * (block.spacing or 1) / s) for n, s in zip(size[1:], prepared["spacing"], strict=True)],
        )
    if columns is not None:
        size = (1, len(columns["names"]), 1, 1)
    torch.manual_seed(0)
    encoder = trained_like(build_encoder(**{**(spec or SMALL), "in_channels": size[0], "shape": list(size[1:])}))
    manifest = folder / "manifest.csv"
    named = cells if cells is not None else [f"test.npy#{modality}@{i}" for i in range(2)]
    manifest.write_text("\n".join(["participant_id,image", *(f"p{i},{c}" for i, c in enumerate(named))]) + "\n")
    card = {
        "method": "exponential",
        "recipe": {"method": {"name": "exponential"}, "views": {"policy": policy}},
        "preprocessing": prepared,
        "images": ["image"],
        "training": {"scans": 2, "manifests": [str(manifest)]},
        "hashes": {"recipe": "1", "manifest": "2"},
        "versions": {"torch": "2"},
        "licence": "CC BY-NC-SA 3.0",
        **({} if columns is None else {"columns": columns}),
    }
    digest = save_encoder(encoder, folder / "encoder.safetensors", card)
    if head is not None:
        save_head(trained_like(head, 1), folder / "projection.safetensors", normalise=normalise)
    (folder / "run.json").write_text(json.dumps({"state": state, "hashes": {"encoder": digest}}))
    return folder


def predicted(folder: Path, x_NV: np.ndarray, indices: Any = None) -> np.ndarray:
    """What the server gets."""
    estimator = load_submission(folder).get_estimator().fit(None, None)
    for step in estimator:
        step.indices = indices
    out: np.ndarray = estimator.predict(x_NV)
    return out


def embedded(run: Path, x_NV: np.ndarray, modality: str, masks: dict[str, Path], layout: Any = None, z: bool = False):
    """What ``medssl embed`` gives for the same scans, as files that medssl's own reader reads."""
    block, folder = TABLE.block(modality), run / "scans"
    folder.mkdir()
    stored = block.shape if layout is None else (1, *layout)
    scans = volumes(x_NV, TABLE, modality, stored, masks.get(modality))
    step = block.spacing or 1.0
    kind = "npy" if step == 1 else "nii"
    for i, x in enumerate(scans):
        if kind == "npy":
            np.save(folder / f"{i}.npy", x)
        else:
            write_volume(folder / f"{i}.nii", x, np.diag([step, step, step, 1.0]))
    lines = ["participant_id,image", *(f"s{i},{i}.{kind}" for i in range(len(scans)))]
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    return stages.embed(run, folder / "manifest.csv", run / "f.npz", projection=z, progress=False).values
