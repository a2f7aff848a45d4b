from __future__ import annotations

import hashlib
import itertools
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from medssl.data.volumes.openbhb_layout import OPENBHB
from medssl.encoders.file import load_encoder
from medssl.errors import UserError
from medssl.export import openbhb
from medssl.export.check import check_submission
from medssl.export.openbhb import FILES, export_openbhb, load_submission
from medssl.heads.mlp import MLP
from tests.export.conftest import HEAD, TABLE, embedded, make_run, predicted

CONV_NORMS = ("batch", "group", "instance")
ENCODERS: list[dict[str, Any]] = [
    *[{"name": "resnet18", "width": 32, "depth": [1, 2], "norm": norm, "stem": "small"} for norm in CONV_NORMS],
    {"name": "resnet18", "width": 4, "depth": [1, 1, 1, 1], "norm": "group", "stem": "imagenet", "stem_stride": 1},
    *[{"name": "resnet50", "width": 8, "depth": [1, 2], "norm": norm, "stem": "small"} for norm in CONV_NORMS],
    {"name": "resnet50", "width": 4, "depth": [1, 1], "stem": "imagenet"},
    *[
        {"name": "densenet121", "width": 32, "growth": 16, "depth": [2, 1], "norm": n, "stem": s, "final": f}
        for n, s, f in (
            ("batch", "imagenet", "none"),
            ("group", "small", "relu"),
            ("instance", "small", "norm"),
            ("batch", "small", "norm"),
        )
    ],
    {
        "name": "densenet121",
        "width": 6,
        "growth": 5,
        "depth": [1, 1, 1],
        "stem": "small",
        "stem_stride": 1,
        "norm": "group",
    },
    {"name": "alexnet3d", "width": 4, "norm": "batch"},
    {"name": "alexnet3d", "width": 4, "norm": "group"},
    *[
        {"name": "mlp", "hidden": [16, 12], "norm": norm, "act": act}
        for norm, act in zip(
            ("batch", "layer", "group", "none", "batch"), ("relu", "gelu", "leaky_relu", "tanh", "none"), strict=True
        )
    ],
]
PREPARATIONS: list[dict[str, Any]] = [
    {"intensity": intensity, "mask": mask, **grid}
    for (intensity, mask), grid in zip(
        [*itertools.product(("zscore", "percentile"), ("nonzero", "otsu", "none")), ("none", "nonzero")],
        itertools.cycle(
            [{}, {"shape": [16, 24, 20]}, {"spacing": [2, 2, 2]}, {"spacing": [2, 1.5, 0.9], "shape": [12, 16, 18]}]
        ),
        strict=False,
    )
]


def close(a: np.ndarray, b: np.ndarray) -> bool:
    return openbhb.largest_difference(a, b) <= 1e-5


@pytest.mark.parametrize("spec", ENCODERS, ids=lambda s: "-".join(str(v) for v in s.values()))
def test_every_encoder_gives_on_the_server_what_medssl_embed_gives(
    spec: dict[str, Any], tmp_path: Path, x_NV: np.ndarray, masks: dict[str, Path]
):
    run = make_run(tmp_path / "run", "quasiraw", spec, head=None)
    got = predicted(export_openbhb(run, tmp_path / "out", table=TABLE), x_NV)
    wanted = embedded(run, x_NV, "quasiraw", masks)
    assert got.dtype == np.float32
    assert close(got, wanted)
    assert np.ptp(wanted, axis=0).max() > 1e-3, "the rows give different features"


@pytest.mark.parametrize("modality", ["vbm", "quasiraw"])
@pytest.mark.parametrize("prep", PREPARATIONS, ids=lambda p: "-".join(str(v) for v in p.values()))
def test_every_preprocessing_of_the_training_is_repeated_on_the_server(
    prep: dict[str, Any], modality: str, tmp_path: Path, x_NV: np.ndarray, masks: dict[str, Path]
):
    run = make_run(tmp_path / "run", modality, prep=prep, policy="none", head=None)
    got = predicted(export_openbhb(run, tmp_path / "out", table=TABLE), x_NV)
    assert close(got, embedded(run, x_NV, modality, masks))


@pytest.mark.parametrize(
    "policy",
    ["yaware", "cutout", [{"zscore": {"foreground": True, "per_channel": False}}, {"zscore": {"p": 0.5}}, "zscore"]],
)
def test_the_z_scores_that_every_view_got_are_repeated_on_the_server(
    policy: Any, tmp_path: Path, x_NV: np.ndarray, masks: dict[str, Path]
):
    prep = {"intensity": "percentile"}
    run = make_run(tmp_path / "run", prep=prep, policy=policy, head=None)
    folder = export_openbhb(run, tmp_path / "out", table=TABLE)
    config = load_submission(folder).CONFIG
    assert len(config["zscores"]) == (2 if isinstance(policy, list) else 1)
    assert close(predicted(folder, x_NV), embedded(run, x_NV, "quasiraw", masks))
    bare = make_run(tmp_path / "bare", prep=prep, policy="none", head=None)
    other = predicted(export_openbhb(bare, tmp_path / "bare-out", table=TABLE), x_NV)
    assert not close(predicted(folder, x_NV), other), "the z-score matters here"


@pytest.mark.parametrize(
    ("head", "normalise"),
    [
        (HEAD, True),
        (HEAD, False),
        (nn.Linear(8, 3), True),
        (MLP((8, 8, 8), norm="layer", act="gelu", last_norm=True, last_affine=True, bias=False), True),
        (MLP((8, 6), norm="batch", last_norm=True), False),
    ],
    ids=["mlp", "not-normalised", "linear", "last-norm", "one-layer"],
)
def test_z_is_the_projection_normalised_where_the_method_does(
    head: nn.Module, normalise: bool, tmp_path: Path, x_NV: np.ndarray, masks: dict[str, Path]
):
    run = make_run(tmp_path / "run", head=head, normalise=normalise)
    z = predicted(export_openbhb(run, tmp_path / "z", features="z", table=TABLE), x_NV)
    assert close(z, embedded(run, x_NV, "quasiraw", masks, z=True))
    lengths = np.linalg.norm(z, axis=1)
    assert np.allclose(lengths, 1, atol=1e-5) == normalise
    assert not (tmp_path / "z" / "__pycache__").exists()


@pytest.mark.parametrize("layout", [None, (1, 1, 28), (4, 7, 1)])
def test_regional_measures_are_read_as_the_network_was_trained_to_read_them(
    layout: Any, tmp_path: Path, x_NV: np.ndarray, masks: dict[str, Path]
):
    spec = {"name": "mlp", "hidden": [9, 8], "norm": "layer"}
    run = make_run(tmp_path / "run", "desikan_roi", spec, {"mask": "none"}, policy="none", layout=layout)
    folder = export_openbhb(run, tmp_path / "out", table=TABLE)
    config = load_submission(folder).CONFIG
    assert (config["stop"] - config["start"], config["mask_variable"]) == (28, "")
    assert close(predicted(folder, x_NV), embedded(run, x_NV, "desikan_roi", masks, layout))


def test_columns_of_regional_measures_are_standardised_as_in_the_training(
    tmp_path: Path, x_NV: np.ndarray, masks: dict[str, Path]
):
    names = ["desikan_roi_6_3", "desikan_roi_0_1", "desikan_roi_2_0"]
    places = [6 * 4 + 3, 1, 2 * 4]
    columns = {"names": names, "mean": [1.0, -2.0, 300.0], "sd": [0.5, 2.0, 40.0], "filled": 0}
    spec = {"name": "mlp", "hidden": [9, 8], "norm": "batch"}
    run = make_run(tmp_path / "run", "desikan_roi", spec, policy="none", head=None, cells=["x.nii"], columns=columns)
    folder = export_openbhb(run, tmp_path / "out", table=TABLE)
    x = np.array(x_NV)
    start = TABLE.span("desikan_roi").start
    x[1, start + 1] = np.nan
    z = (x[:, [start + k for k in places]] - np.array(columns["mean"])) / np.array(columns["sd"])
    z[1, 1] = 0
    with torch.no_grad():
        wanted = load_encoder(run)(torch.from_numpy(z.astype(np.float32)).reshape(5, 1, 3, 1, 1)).pooled.numpy()
    assert close(predicted(folder, x), wanted)
    found = {f.what: f.ok for f in check_submission(folder, run, table=TABLE)}
    assert found["agreement with medssl embed"]
    assert False not in found.values()


def test_indices_choose_the_rows_in_their_order(tmp_path: Path, x_NV: np.ndarray, masks: dict[str, Path]):
    folder = export_openbhb(make_run(tmp_path / "run"), tmp_path / "out", table=TABLE)
    whole = predicted(folder, x_NV)
    assert whole.shape == (5, 8)
    assert np.array_equal(predicted(folder, x_NV, range(5)), whole)
    for chosen in (np.array([3, 0, 4]), [1], range(2, 4)):
        assert close(predicted(folder, x_NV, chosen), whole[list(chosen)])
    assert predicted(folder, x_NV, np.array([], dtype=int)).shape == (0, 8)
    assert close(predicted(folder, np.asarray(x_NV, np.float64)), whole)


def test_a_row_is_read_from_its_own_block_only(tmp_path: Path, x_NV: np.ndarray, masks: dict[str, Path]):
    folder = export_openbhb(make_run(tmp_path / "run"), tmp_path / "out", table=TABLE)
    other = np.array(x_NV)
    inside = np.zeros(TABLE.width, bool)
    inside[2501 : 2501 + 3003] = True
    other[:, ~inside] = np.nan
    assert np.array_equal(predicted(folder, other), predicted(folder, x_NV))
    other[:, 2501] += 50
    assert not close(predicted(folder, other), predicted(folder, x_NV))


def test_rows_masks_and_scans_that_do_not_fit_are_refused_on_the_server(
    tmp_path: Path, x_NV: np.ndarray, masks: dict[str, Path], monkeypatch: pytest.MonkeyPatch
):
    folder = export_openbhb(make_run(tmp_path / "run"), tmp_path / "out", table=TABLE)
    with pytest.raises(ValueError, match=f"rows of {TABLE.width} values are needed"):
        predicted(folder, x_NV[:, :-1])
    broken = np.array(x_NV)
    broken[1, 2600] = np.nan
    with pytest.raises(ValueError, match="NaN or infinite"):
        predicted(folder, broken)
    broken[1] = 0
    with pytest.raises(ValueError, match="constant"):
        predicted(folder, broken)
    monkeypatch.setenv("QUASIRAW_MASK", str(masks["vbm"]))
    with pytest.raises(ValueError, match=r"but rows hold 3003 voxels on a grid of \(20, 22, 19\)"):
        predicted(folder, x_NV)
    monkeypatch.delenv("QUASIRAW_MASK")
    with pytest.raises(ValueError, match="QUASIRAW_MASK must name the mask"):
        predicted(folder, x_NV)


def test_the_blocks_stand_where_the_challenge_has_them():
    spans = {name: OPENBHB.span(name) for name in OPENBHB.names}
    assert OPENBHB.width == 3_659_572
    assert {name: (s.start, s.stop) for name, s in spans.items()} == {
        "vbm": (0, 519_945),
        "quasiraw": (519_945, 2_347_040),
        "xhemi": (2_347_040, 3_657_776),
        "vbm_roi": (3_657_776, 3_658_060),
        "desikan_roi": (3_658_060, 3_658_536),
        "destrieux_roi": (3_658_536, 3_659_572),
    }
    with pytest.raises(UserError, match="no modality 't1w'"):
        OPENBHB.span("t1w")


def test_the_submission_is_three_files_that_say_what_they_are(tmp_path: Path):
    folder = export_openbhb(make_run(tmp_path / "run"), tmp_path / "deep" / "out", features="z", table=TABLE)
    assert sorted(p.name for p in folder.iterdir()) == sorted(FILES)
    about = pd.read_pickle(folder / "metadata.pkl")
    assert type(about) is dict
    assert (about["modality"], about["features"], about["width"]) == ("quasiraw", "z", 5)
    assert (about["licence"], about["modality_known_from"]) == ("CC BY-NC-SA 3.0", "manifest")
    for name in FILES[:2]:
        assert about["hashes"][name] == hashlib.sha256((folder / name).read_bytes()).hexdigest()
    assert "manifests" not in about["training"], "no path of this machine"
    assert str(tmp_path) not in (folder / "estimator.py").read_text()
    weights = torch.load(folder / "weights.pth", weights_only=True)
    assert list(weights) == ["model"]
    text = (folder / "estimator.py").read_text()
    imported = {line.split()[1].split(".")[0] for line in text.splitlines() if line.startswith(("import ", "from "))}
    assert imported == {"os", "nibabel", "numpy", "torch", "sklearn"}
    load_submission(folder)
    assert "submission" not in sys.modules


def test_weights_must_fit_by_every_name_and_shape(tmp_path: Path):
    folder = export_openbhb(make_run(tmp_path / "run"), tmp_path / "out", table=TABLE)
    weights = torch.load(folder / "weights.pth", weights_only=True)["model"]
    torch.save({"model": {}}, folder / "weights.pth")
    with pytest.raises(RuntimeError, match="Missing key"):
        load_submission(folder).get_estimator().fit(None, None)
    torch.save({"model": weights | {"more": torch.zeros(1)}}, folder / "weights.pth")
    with pytest.raises(RuntimeError, match="Unexpected key"):
        load_submission(folder).get_estimator().fit(None, None)


def test_an_encoder_file_alone_is_exported_like_its_run(tmp_path: Path):
    run = make_run(tmp_path / "run")
    whole = export_openbhb(run, tmp_path / "a", table=TABLE)
    alone = export_openbhb(run / "encoder.safetensors", tmp_path / "b", table=TABLE)
    assert (whole / "estimator.py").read_bytes() == (alone / "estimator.py").read_bytes()
