from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medssl import stages
from medssl.cli import _sentence
from medssl.data.loading import cache as cache_module
from medssl.encoders import build_encoder
from medssl.encoders.file import load_encoder, save_encoder
from medssl.errors import ManifestError, UserError
from medssl.runs.folder import Run
from medssl.tables.text import read_cells
from tests.cli.conftest import Told, left_in, one_sentence
from tests.conftest import tiny_recipe

QUICK = ("trainer.epochs=1", "optim.warmup=0.9", "monitors.every=0", "monitors.map=false")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["pretrain", "nowhere.yaml"], "nowhere.yaml does not exist"),
        (["pretrain", ""], "unknown method ''"),
        (["pretrain", "simcrl"], "did you mean 'simclr'"),
        (["pretrain", "simclr"], "set data.manifest=PATH"),
        (["pretrain", "simclr", "data.manifest=nowhere.csv"], "nowhere.csv does not exist"),
        (["pretrain", "simclr", "optim.lrr=1"], "unknown key 'optim.lrr'; did you mean 'optim.lr'?"),
        (["pretrain", "simclr", "optim.lr=fast"], "'optim.lr' is 'fast'"),
        (["pretrain", "simclr", "method.temperature=hot"], "method.temperature is 'hot'"),
        (["pretrain", "simclr", "trainer.epochs"], "must read key=value"),
        (["pretrain", "--resume", "nowhere"], "nowhere is no run folder"),
        (["embed", "nowhere.safetensors"], "nowhere.safetensors: there is no such file"),
        (["embed", "."], "holds no encoder yet"),
        (["score", "nowhere.csv"], "nowhere.csv does not exist"),
        (
            ["score", "nowhere.csv", "--harmonize", "comat"],
            "or 'residual'; did you mean 'combat'?",
        ),
        (["score", "nowhere.csv", "--harmonize", "combat", "--unseen", "x"], "unseen is 'x', but it must be 'error'"),
        (["pretrain", "simclr", "regularizers=[{name: fairkl}]"], "did you mean 'fair_kl'?"),
        (["report", "nowhere"], "nowhere"),
        (["methods", "mocco"], "did you mean 'moco'"),
        (["cohort", "check", "nowhere.csv"], "nowhere.csv does not exist"),
    ],
)
def test_what_does_not_exist_or_is_mistyped_is_named(
    arguments: list[str],
    words: str,
    medssl: Callable[..., Told],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.chdir(tmp_path)
    assert words in one_sentence(medssl(*arguments))
    assert left_in(tmp_path) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["simclr", "trainer.strategy=fsdp", "trainer.micro_batch=4"], "needs the whole weights on every device"),
        (["simclr", "trainer.strategy=no_such"], "trainer.strategy=no_such is unknown"),
        (["simclr", "trainer.strategy=fsdp"], "shards a vit"),
        (["simclr", "trainer.sync_batchnorm=true"], "works on GPUs only"),
        (["threshold", "method.variant=isbi_code", "trainer.devices=2"], "set trainer.devices=1"),
    ],
)
def test_what_cannot_be_trained_here_is_refused_before_there_is_a_run(
    arguments: list[str], words: str, cohort: Path, medssl: Callable[..., Told], tmp_path: Path
):
    name, *changes = arguments
    assert words in one_sentence(medssl("pretrain", name, *tiny_recipe(cohort, tmp_path / "run"), *QUICK, *changes))
    assert not (tmp_path / "run").exists()


def bad_manifest(kind: str, cohort: Path, folder: Path) -> tuple[Path, list[str]]:
    """A manifest that cannot be trained on, and overrides that go with it."""
    lines = cohort.read_text().splitlines()
    rows = [line.replace("images/", f"{cohort.parent}/images/") for line in lines]
    path, more = folder / "bad.csv", []
    if kind == "empty":
        rows = rows[:1]
    elif kind == "no column":
        rows[0] = rows[0].replace("image", "scan")
    elif kind == "no age":
        rows[0] = rows[0].replace(",age,", ",weeks,")
    elif kind == "gzip":
        (folder / "cut.nii.gz").write_bytes((cohort.parent / "images" / "sub-0001_T1w.nii.gz").read_bytes()[:400])
        rows[1] = rows[1].replace(f"{cohort.parent}/images/sub-0001_T1w.nii.gz", "cut.nii.gz")
    elif kind == "shapes":
        rows = ["participant_id,image,age"]
        for k in range(8):
            np.save(folder / f"{k}.npy", np.random.default_rng(k).random((12 + k // 4, 12, 12)))
            rows.append(f"{k},{k}.npy,{30 + k}")
        more = ["data.preprocessing={}"]
    path.write_text("\n".join(rows) + "\n")
    return path, more


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("empty", "has a header but no rows"),
        ("no column", 'has no column "image"; of a table of features, name these (--columns,'),
        ("no age", "reads it"),
        ("gzip", "cut.nii.gz"),
        ("shapes", "different shapes after preprocessing"),
        ("batch", "set data.batch_size="),
    ],
)
def test_a_cohort_that_cannot_be_trained_on_is_named_and_leaves_nothing(
    kind: str, words: str, cohort: Path, tmp_path: Path, medssl: Callable[..., Told]
):
    manifest, more = bad_manifest(kind, cohort, tmp_path)
    if kind == "batch":
        more = ["data.batch_size=500"]
    told = medssl("pretrain", "exponential", *tiny_recipe(manifest, tmp_path / "run"), *more, "--quiet")
    assert words in one_sentence(told)
    assert not (tmp_path / "run").exists()


def test_an_encoder_of_another_architecture_is_refused(cohort: Path, tmp_path: Path, medssl: Callable[..., Told]):
    encoder = build_encoder("resnet18", width=4, depth=[1, 1], norm="group", stem="small")
    encoder.spec = {**encoder.spec, "width": 8}
    save_encoder(encoder, tmp_path / "other.safetensors", {"preprocessing": {}})
    told = medssl("embed", tmp_path / "other.safetensors", cohort, "-o", tmp_path / "f.csv", "--quiet")
    assert "another architecture" in one_sentence(told)
    assert left_in(tmp_path) == ["other.safetensors"]


def full(*arguments: Any, **options: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_said_and_nothing_half_written_stays(
    cohort: Path, tmp_path: Path, medssl: Callable[..., Told], monkeypatch: pytest.MonkeyPatch
):
    command = ["pretrain", "simclr", *tiny_recipe(cohort, tmp_path / "run"), *QUICK, "--quiet"]
    monkeypatch.setattr(torch, "save", full)
    assert "no space is left on the disk" in one_sentence(medssl(*command))
    kept = left_in(tmp_path)
    assert "run/encoder.safetensors" not in kept
    assert not [name for name in kept if name.endswith((".tmp", ".ckpt"))]
    monkeypatch.undo()
    monkeypatch.setenv("MEDSSL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache_module, "write_entry", full)
    told = medssl(*command, f"output={tmp_path / 'second'}")
    assert "no space left in" in one_sentence(told)
    assert not (tmp_path / "second").exists()
    assert not [name for name in left_in(tmp_path) if "cache/" in name]


def test_a_full_disk_while_the_encoder_is_written_leaves_a_run_to_resume(
    cohort: Path, tmp_path: Path, medssl: Callable[..., Told], monkeypatch: pytest.MonkeyPatch
):
    run = tmp_path / "run"
    real = os.replace

    def refuse(source: Any, target: Any) -> None:
        if str(target).endswith(".safetensors"):
            full()
        real(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    told = medssl("pretrain", "simclr", *tiny_recipe(cohort, run), *QUICK, "--quiet")
    assert "no space left in" in one_sentence(told)
    assert not [name for name in left_in(tmp_path) if "safetensors" in name]
    monkeypatch.undo()
    assert stages.pretrain(resume=run, progress=False, page=False) == run
    assert load_encoder(run / "encoder.safetensors").dim == 8


def test_the_exit_status_of_a_check_passes_through(cohort: Path, tmp_path: Path, medssl: Callable[..., Told]):
    assert medssl("cohort", "check", cohort)[0] == 0
    manifest, _ = bad_manifest("gzip", cohort, tmp_path)
    status, out, err = medssl("cohort", "check", manifest)
    assert status == 1
    assert "cut.nii.gz" in out + err


def test_a_working_folder_that_is_gone_is_said(medssl: Callable[..., Told], tmp_path: Path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    told = medssl("cohort", "check", "x.csv")
    monkeypatch.chdir(tmp_path)
    assert "the folder that this command was started in is no longer there" in one_sentence(told)


@pytest.mark.parametrize(
    ("problem", "words"),
    [
        (FileNotFoundError(2, "No usable temporary directory found in ['/tmp']"), "set TMPDIR to another folder"),
        (FileNotFoundError(2, "No such file", "a/train.csv"), "a/train.csv: no such file; put it back where it was"),
        (PermissionError(13, "Permission denied", "f.csv"), "f.csv: permission denied; change its permissions"),
        (OSError(5, "Input/output error", "f.csv"), "f.csv: input/output error; check its disk"),
    ],
)
def test_what_the_system_says_of_a_file_comes_with_a_remedy(problem: OSError, words: str):
    assert words in _sentence(problem)


def test_ctrl_c_is_told_by_what_is_in_the_folder(medssl: Callable[..., Told], tmp_path: Path, monkeypatch):
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(stages, "pretrain", stopped)
    arguments = ["pretrain", "exponential", "data.manifest=m.csv", f"output={tmp_path / 'run'}"]
    assert "before the training began; nothing is lost" in medssl(*arguments)[2]
    run = Run(tmp_path / "run")
    run.start("method: moco\n", {"id": "1"})
    assert "before the first checkpoint; start" in medssl(*arguments)[2]
    run.encoder.touch()
    run.update({"state": "finished", "finished": "2026-11-28T00:00:00Z"})
    status, _, err = medssl(*arguments)
    assert (status, "after the run was finished; nothing is lost" in err) == (130, True)


def test_an_encoder_that_may_not_be_read_is_not_called_incomplete(tmp_path: Path, monkeypatch):
    (tmp_path / "encoder.safetensors").touch()
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(UserError, match=r"may not be read \(permission denied\); change its permissions"):
        load_encoder(tmp_path / "encoder.safetensors")


def test_a_cell_that_is_too_long_is_told_by_its_length(medssl: Callable[..., Told], tmp_path: Path):
    (tmp_path / "t.csv").write_text("participant_id,age,site,split,f0,note\np1,30,a,train,1," + "x" * 140_000 + "\n")
    assert "shorten the cell" in one_sentence(medssl("score", tmp_path / "t.csv"))
    (tmp_path / "m.csv").write_text("participant_id,age,note\np1,30," + "x" * 140_000 + "\n")
    with pytest.raises(ManifestError, match="a cell of more than 131072 letters; shorten it"):
        read_cells(tmp_path / "m.csv")
    (tmp_path / "t.csv").write_text("participant_id,age,site,split,f0\np1,30,a,train,1e308\n")
    assert "f0 is 1e308, but features are at most 3.4e38" in one_sentence(medssl("score", tmp_path / "t.csv"))
