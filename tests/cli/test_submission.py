from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from medssl.export import check
from medssl.export.check import Finding
from tests.cli.conftest import Told, left_in, one_sentence
from tests.export.conftest import make_run


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--modality", "vbm"], "was trained on quasiraw, not on vbm"),
        (["--features", "z"], "has no projection head, so there is no z"),
        (["--features", "w"], "features 'w' must be h (encoder) or z (projection head)"),
        ([], "reads 20 x 22 x 19 voxels, but quasiraw gives 182 x 218 x 182"),
    ],
)
def test_a_run_that_cannot_be_submitted_is_answered_in_one_sentence(
    options: list[str], words: str, tmp_path: Path, medssl: Callable[..., Told]
):
    run = make_run(tmp_path / "run", head=None)
    before = left_in(tmp_path)
    told = medssl("openbhb", "export", run, "-o", tmp_path / "out", *options)
    assert words in one_sentence(told)
    assert left_in(tmp_path) == before


def test_a_regional_run_is_exported_by_command(tmp_path: Path, medssl: Callable[..., Told]):
    spec = {"name": "mlp", "hidden": [9, 8], "norm": "batch"}
    run = make_run(tmp_path / "run", "vbm_roi", spec, {"mask": "none"}, layout=(284, 1, 1))
    status, out, _ = medssl("openbhb", "export", run, "-o", tmp_path / "out", "--features", "z")
    assert status == 0
    assert out.split() == [str(tmp_path / "out" / name) for name in ("estimator.py", "weights.pth", "metadata.pkl")]


@pytest.mark.parametrize(("ok", "status", "word"), [(True, 0, "nothing failed"), (False, 1, "1 of 2 checks failed")])
def test_a_failed_check_is_the_exit_status(
    ok: bool, status: int, word: str, medssl: Callable[..., Told], monkeypatch: pytest.MonkeyPatch
):
    found = [Finding("files", ok, "three files"), Finding("mask", None, "a stand-in")]
    monkeypatch.setattr(check, "check_submission", lambda *arguments, **options: found)
    got, out, _ = medssl("openbhb", "check", "folder")
    assert got == status
    assert word in out
    assert ("FAILED" in out) == (not ok)


def test_a_folder_that_is_not_there_is_one_sentence(tmp_path: Path, medssl: Callable[..., Told]):
    told = medssl("openbhb", "check", tmp_path / "nothing")
    assert "does not exist; make it with `medssl openbhb export" in one_sentence(told)
