from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medssl.data.volumes.openbhb_layout import OPENBHB, Block
from medssl.errors import UserError
from medssl.export import check, openbhb, server
from medssl.export.check import Finding, check_submission
from medssl.export.openbhb import export_openbhb
from medssl.export.process import Limits
from medssl.export.source import is_written_by_medssl
from medssl.export.standin import stand_in_mask
from tests.export.conftest import TABLE, make_run


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run and its submission."""
    folder = tmp_path_factory.mktemp("made")
    run = make_run(folder / "run", "vbm", prep={"spacing": [2, 2, 2], "intensity": "percentile"})
    return run, export_openbhb(run, folder / "out", features="z", table=TABLE)


@pytest.fixture
def copy(made: tuple[Path, Path], tmp_path: Path) -> Path:
    """The submission, to be spoiled."""
    out = tmp_path / "copy"
    out.mkdir()
    for file in made[1].iterdir():
        if file.is_file():
            (out / file.name).write_bytes(file.read_bytes())
    return out


@pytest.fixture
def inside(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's work in this process, where torch is imported already."""

    def start(job: dict[str, Any], scratch: Path, limits: Limits) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        said: dict[str, Any] = {}
        out: dict[str, np.ndarray] = {}
        with monkeypatch.context() as patch:
            patch.setattr(sys, "meta_path", list(sys.meta_path))
            for name in job["environment"]:
                patch.setenv(name, "")
            try:
                out = server.serve(job, said)
            except Exception as problem:
                said["error"] = f"{type(problem).__name__}: {problem}"
        return said | {"blocked": []}, out

    monkeypatch.setattr(check, "run_server", start)


def failed(findings: list[Finding]) -> dict[str, str]:
    return {f.what: f.seen for f in findings if f.ok is False}


def test_a_submission_passes_every_check_and_agrees_with_embed(made: tuple[Path, Path]):
    found = check_submission(made[1], made[0], table=TABLE)
    assert failed(found) == {}
    seen = {f.what: f for f in found}
    assert seen["agreement with medssl embed"].ok is True
    assert "stand-in of 2501 voxels" in seen["mask"].seen
    assert "MB at most" in seen["memory"].seen
    assert "none 4 x 5, subset 2 x 5, range 4 x 5" in seen["shapes"].seen
    assert len(found) >= 20
    assert sorted(p.name for p in made[1].iterdir()) == ["estimator.py", "metadata.pkl", "weights.pth"]


def test_real_rows_and_masks_are_used_where_they_are_given(
    inside: None, made: tuple[Path, Path], x_NV: np.ndarray, masks: dict[str, Path], tmp_path: Path
):
    found = {f.what: f for f in check_submission(made[1], made[0], tmp_path / "x.npy", table=TABLE)}
    assert found["mask"].seen == str(masks["vbm"])
    assert found["agreement with medssl embed"].ok is True
    np.save(tmp_path / "narrow.npy", np.zeros((2, 7), np.float32))
    (tmp_path / "text.npy").write_text("no array")
    for name, words in (("narrow.npy", "rows of the challenge have"), ("text.npy", "no readable .npy")):
        with pytest.raises(UserError, match=words):
            check_submission(made[1], None, tmp_path / name, table=TABLE)


def test_a_comment_with_a_blank_before_the_word_fails(inside: None, copy: Path):
    with (copy / "estimator.py").open("a") as file:
        file.write("# an open data set\n")
    seen = failed(check_submission(copy, trust=True, table=TABLE))
    assert "forbidden key word 'open'" in seen["text scan of the challenge"]
    assert "files are those of metadata.pkl" in seen


def test_more_than_ten_thousand_features_fail(inside: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(openbhb, "WIDEST", 20_000)
    spec = {"name": "mlp", "hidden": [10_001], "norm": "none"}
    run = make_run(tmp_path / "run", "vbm_roi", spec, {"mask": "none"}, head=None)
    seen = failed(check_submission(export_openbhb(run, tmp_path / "out", table=TABLE), table=TABLE))
    assert seen == {"at most 10000 features": "10001 features"}


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("def get_estimator():", "def estimator():", "fit(None, None) restores the weights"),
        ("else np.asarray(self.indices)", "else np.arange(len(X))", "shapes"),
        ("return out_NF", "return out_NF[::-1]", "indices are honoured"),
        ("return out_NF", "return out_NF + np.random.rand()", "the same twice"),
        ("return out_NF", "return out_NF * np.nan", "numbers are finite"),
        ("return out_NF", "return out_NF.astype(int)", "numbers are finite"),
        ("return out_NF", "return out_NF * 1.001", "agreement with medssl embed"),
        ("'start': 0", "'start': 1", "rows of the challenge"),
        ("'modality': 'vbm'", "'modality': 'other'", "rows of the challenge"),
        ("        return self\n", "        return None\n", "predict, indices None"),
        ("def fit(self, X=None", "def fit(self, X: int | None=None", "Python 3.8 can read it"),
    ],
)  # fmt: skip
def test_whatever_the_server_would_trip_over_fails_by_name(
    inside: None, old: str, new: str, what: str, copy: Path, made: tuple[Path, Path]
):
    text = (copy / "estimator.py").read_text()
    assert old in text
    (copy / "estimator.py").write_text(text.replace(old, new))
    if what == "predict, indices None":  # a pipeline returns itself, so the step alone is asked
        (copy / "estimator.py").write_text(
            text.replace(old, new).replace('Pipeline([("embedding", Embedding())])', "[Embedding()]")
        )
        what = "fit(None, None) restores the weights"
    fs = check_submission(copy, made[0], trust=True, table=TABLE)
    assert what in failed(fs), [(f.what, f.seen) for f in fs]


def test_weights_of_another_network_fail(inside: None, copy: Path):
    torch.save({"model": {}}, copy / "weights.pth")
    seen = failed(check_submission(copy, trust=True, table=TABLE))
    assert "RuntimeError" in seen["fit(None, None) restores the weights"]
    assert seen["predict, indices None"] == "not reached"


@pytest.mark.parametrize(
    ("modality", "columns", "words"),
    [
        ("vbm", ["vbm_roi_0_0", "vbm_roi_0_1"], "reads 2 columns, estimator.py 0"),
        ("xhemi", None, "expects 40 values per scan"),
    ],
)
def test_the_run_of_another_submission_is_a_failure_and_no_traceback(
    inside: None, copy: Path, tmp_path: Path, modality: str, columns: list[str] | None, words: str
):
    card = columns and {"names": columns, "mean": [0.0, 0.0], "sd": [1.0, 1.0]}
    spec = {"name": "mlp", "hidden": [4]}
    other = make_run(tmp_path / "other", modality, spec, {"mask": "none"}, columns=card)
    seen = failed(check_submission(copy, other, trust=True, table=TABLE))
    assert words in seen["agreement with medssl embed"]


def test_files_that_are_missing_too_many_or_damaged_fail(inside: None, copy: Path, tmp_path: Path):
    (copy / "more.txt").write_text("")
    assert failed(check_submission(copy, trust=True, table=TABLE))["files"] == "more.txt does not belong there"
    (copy / "more.txt").unlink()
    (copy / "metadata.pkl").write_bytes(pickle.dumps({})[:3])
    assert "metadata.pkl holds plain values" in failed(check_submission(copy, trust=True, table=TABLE))
    (copy / "weights.pth").unlink()
    assert failed(check_submission(copy, trust=True, table=TABLE)) == {"files": "weights.pth is missing"}
    with pytest.raises(UserError, match="does not exist; make it with `medssl openbhb export"):
        check_submission(tmp_path / "nothing", table=TABLE)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text + "\nopen('EVIL', 'w')\n",
        lambda text: text.replace("import nibabel\n", "import nibabel; open('EVIL', 'w')\n"),
        lambda text: text.replace("'vbm'", "'vbm'\n    [open('EVIL', 'w')]", 1),
        lambda text: text.replace("'features'", "'more': open('EVIL', 'w'), 'features'", 1),
        lambda text: "\ufeff" + text,
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text + "CONFIG = {}\n",
        lambda text: text[:-40],
        lambda text: "(" * 5000,
        lambda text: "\0",
        lambda text: "CONFIG = {'modality': 'vbm', 'encoder': 3}",
    ],
)
def test_code_that_medssl_did_not_write_is_not_run_without_trust(
    change: Callable[[str], str], copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def never(*_: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(check, "run_server", never)
    monkeypatch.chdir(tmp_path)
    text = change((copy / "estimator.py").read_text())
    (copy / "estimator.py").write_bytes(text.encode())
    assert not is_written_by_medssl(text)
    found = {finding.what: finding for finding in check_submission(copy, table=TABLE)}
    assert found["files"].ok is True
    assert found["metadata.pkl holds plain values"].ok is True
    assert found["files are those of metadata.pkl"].ok is False
    if "its code may run here" in found:
        assert found["its code may run here"].ok is None
        assert "it was not run" in found["its code may run here"].seen
        assert "give --trust" in found["its code may run here"].seen
    else:
        assert found["rows of the challenge"].ok is False
    assert not list(tmp_path.rglob("EVIL"))


def test_a_metadata_file_that_calls_is_named_and_nothing_is_called(inside: None, copy: Path, tmp_path: Path):
    class Evil:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {tmp_path / 'EVIL'}",)

    (copy / "metadata.pkl").write_bytes(pickle.dumps(Evil()))
    seen = failed(check_submission(copy, table=TABLE))
    assert "which is code and no plain value" in seen["metadata.pkl holds plain values"]
    assert not (tmp_path / "EVIL").exists()


@pytest.mark.slow
@pytest.mark.parametrize("package", ["monai", "medssl.errors"])
def test_a_package_that_is_not_on_the_server_cannot_be_imported(package: str, copy: Path):
    text = (copy / "estimator.py").read_text()
    (copy / "estimator.py").write_text(text.replace("import nibabel\n", f"import nibabel\nimport {package}\n"))
    seen = failed(check_submission(copy, trust=True, table=TABLE))
    assert f"{package.split('.')[0]} is not on the server" in seen["estimator.py is imported without medssl and monai"]


@pytest.mark.slow
def test_a_process_that_dies_is_a_failure_and_no_success(copy: Path):
    text = (copy / "estimator.py").read_text()
    (copy / "estimator.py").write_text(text.replace("import nibabel\n", "import nibabel\nos._exit(3)\n"))
    seen = failed(check_submission(copy, trust=True, table=TABLE))
    assert "the process ended: exit status 3" in seen.values()


@pytest.mark.parametrize("block", [b for b in OPENBHB.blocks if b.mask_variable], ids=lambda b: b.name)
def test_stand_in_masks_have_the_true_number_of_voxels(block: Block):
    values = stand_in_mask(block)
    assert values.shape == block.shape[1:]
    assert int((values.astype(np.float64) > block.mask_above).sum()) == block.mask_voxels
