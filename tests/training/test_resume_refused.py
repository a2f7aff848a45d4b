"""A run goes on only with its own scans, its own recipe and its own checkpoints."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from medssl import stages
from medssl.errors import StaleError, UserError
from medssl.training.checkpoints import list_checkpoints
from medssl.training.monitors import Monitor
from tests.conftest import draw_cohort, tiny_recipe

QUIET: dict[str, Any] = {"progress": False, "page": False}
REMEDY = "take it out of the folder, and the run continues from the checkpoint before"


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cohort whose files may be touched."""
    return draw_cohort(tmp_path_factory.mktemp("own"), subjects=30, sites=4, seed=2)


def stopped(recipe: list[str], monkeypatch: pytest.MonkeyPatch, step: int = 5) -> None:
    """A training that is stopped by hand after ``step``."""
    on_step = Monitor.on_step

    def stop(self: Monitor, record: Any, out: Any, batch: Any) -> None:
        on_step(self, record, out, batch)
        if record["step"] == step:
            raise KeyboardInterrupt

    monkeypatch.setattr(Monitor, "on_step", stop)
    with pytest.raises(KeyboardInterrupt, match="continue after step 4"):
        stages.pretrain(*recipe, **QUIET)
    monkeypatch.undo()


def recipe(scans: Path, out: Path, method: str = "simclr", *more: str) -> list[str]:
    kept = ["trainer.checkpoint_steps=2", "trainer.keep_checkpoints=3", "monitors.every=0", "monitors.map=false"]
    cache = f"data.cache={scans.parent.parent / 'cache'}"
    return [method, *tiny_recipe(scans, out, method), *kept, cache, *more]


@pytest.fixture(scope="module")
def begun(scans: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs that were stopped after step 5, of the same and of another recipe."""
    place = tmp_path_factory.mktemp("begun")
    with pytest.MonkeyPatch.context() as patch:
        stopped(recipe(scans, place / "run"), patch)
        stopped(recipe(scans, place / "twin"), patch)
        stopped(recipe(scans, place / "other", "exponential", "trainer.seed=3"), patch)
    return {name: place / name for name in ("run", "twin", "other")}


@pytest.fixture
def run(begun: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(begun["run"], tmp_path / "run"))


def image(scans: Path) -> Path:
    """A training scan."""
    from medssl.data.manifest.cohort import Cohort

    cohort = Cohort.read(str(scans))
    return Path(cohort.files(cohort.rows("train"))[0][0])


@pytest.mark.parametrize("keep_time", [False, True])
@pytest.mark.parametrize("cached", [True, False])
def test_a_scan_replaced_by_another_of_equal_size_is_refused(
    scans: Path, run: Path, keep_time: bool, cached: bool
) -> None:
    scan = image(scans)
    before, state = scan.read_bytes(), scan.stat()
    other = bytearray(before)
    other[4] ^= 1  # the time in the header of gzip: the size stays, and so do the voxels
    cache = scans.parent.parent / "cache"
    try:
        scan.write_bytes(bytes(other))
        if keep_time:
            os.utime(scan, ns=(state.st_atime_ns, state.st_mtime_ns))
        if not cached:
            shutil.rmtree(cache, ignore_errors=True)
        with pytest.raises(
            UserError, match=rf"1 training scan holds something else .*{scan.name}\); restore it, or start"
        ):
            stages.pretrain(resume=run, **QUIET)
        assert cached == cache.exists(), "refused before a scan is preprocessed"
    finally:
        scan.write_bytes(before)
        os.utime(scan, ns=(state.st_atime_ns, state.st_mtime_ns))


def test_scans_that_were_copied_back_unchanged_are_accepted(scans: Path, run: Path, tmp_path: Path) -> None:
    shutil.copytree(scans.parent, tmp_path / "copy", copy_function=shutil.copy)  # other times
    shutil.rmtree(scans.parent)
    shutil.move(tmp_path / "copy", scans.parent)
    before = (run / "scans.csv").read_text().splitlines()
    assert stages.pretrain(resume=run, **QUIET) == run
    after = (run / "scans.csv").read_text().splitlines()
    assert [line.split(",")[:2] for line in before] == [line.split(",")[:2] for line in after]
    assert before != after, "the state of the files is noted, so that they are not read again next time"
    assert stages.finished_at(run)


@pytest.mark.parametrize(
    ("who", "what"), [("twin", "another run,"), ("other", "another run, another recipe, another seed,")]
)
def test_a_checkpoint_of_another_run_is_refused(begun: dict[str, Path], run: Path, who: str, what: str) -> None:
    foreign = list_checkpoints(begun[who] / "checkpoints")[-1]
    shutil.copy(foreign, run / "checkpoints" / "step-00000099.ckpt")
    with pytest.raises(UserError, match=rf"step-00000099\.ckpt belongs to {what} so it cannot.*{REMEDY}"):
        stages.pretrain(resume=run, **QUIET)


def rewritten(run: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = list_checkpoints(run / "checkpoints")[-1]
    state = torch.load(path, weights_only=True)
    change(state)
    torch.save(state, path)


def first_weight(state: dict[str, Any]) -> str:
    return next(name for name in state["state_dict"] if name.endswith("weight"))


ELSE = "belongs to another method or encoder: it"
MISFITS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "NaN weights": (lambda s: s["state_dict"][first_weight(s)].fill_(float("nan")), "hold NaN or Inf"),
    "a missing weight": (lambda s: s["state_dict"].pop(first_weight(s)), f"{ELSE} lacks"),
    "a foreign weight": (lambda s: s["state_dict"].update(w=torch.ones(1)), f"{ELSE} holds 'w'"),
    "another shape": (lambda s: s["state_dict"].update({first_weight(s): torch.ones(1)}), r"has shape \(1,\) there"),
    "no optimiser": (lambda s: s["optimizer_states"].clear(), "holds 0 optimisers, but this training has 1"),
    "another optimiser": (
        lambda s: s["optimizer_states"][0]["param_groups"].pop(), "is of .* parameters, but there are"),
    "no moments": (lambda s: s["optimizer_states"][0].clear(), "has no param_groups and state"),
    "text as moments": (lambda s: s["optimizer_states"][0]["state"].update({0: "x"}), "a slot of parameter 0"),
    "counters that are gone": (
        lambda s: s["loops"]["fit_loop"].pop("epoch_progress"), "loops lacks the key 'epoch_progress'"),
    "counters as text": (
        lambda s: s["loops"]["fit_loop"].update({"epoch_loop.batch_progress": "x"}), "is no mapping of counters"),
    "a strange version": (lambda s: s.update({"pytorch-lightning_version": "x"}), "cannot be continued from"),
    "no identity": (lambda s: s["medssl"].pop("identity"), "does not say which run it belongs to"),
    "a monitor of another form": (lambda s: s["medssl"].update(monitor={"low": 1}), "the monitors' part lacks the key"),
    "a map of other scans": (
        lambda s: s["medssl"]["monitor"].update(previous=torch.ones(3)), r"previous is no map of \d+ scans"),
}  # fmt: skip


@pytest.mark.parametrize("what", MISFITS)
def test_a_checkpoint_that_does_not_fit_is_one_sentence(run: Path, what: str) -> None:
    change, said = MISFITS[what]
    rewritten(run, change)
    with pytest.raises(UserError, match=said) as caught:
        stages.pretrain(resume=run, **QUIET)
    assert list_checkpoints(run / "checkpoints")[-1].name in str(caught.value)
    assert str(caught.value).endswith(REMEDY)


def test_a_damaged_newest_checkpoint_is_set_aside_and_the_one_before_gives_the_same(
    begun: dict[str, Path], run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sound = Path(shutil.copytree(begun["run"], tmp_path / "sound"))
    newest = list_checkpoints(run / "checkpoints")[-1]
    newest.write_bytes(newest.read_bytes()[:-300])
    stages.pretrain(resume=run, progress=True, page=False)
    said = capsys.readouterr().err
    assert f"{newest} is damaged" in said
    assert f"set aside as {newest.name}.damaged" in said
    assert f"continues from {list_checkpoints(begun['run'] / 'checkpoints')[-2].name} instead" in said
    assert newest.with_name(newest.name + ".damaged").is_file()
    stages.pretrain(resume=sound, **QUIET)
    assert (run / "encoder.safetensors").read_bytes() == (sound / "encoder.safetensors").read_bytes()


def test_without_a_sound_checkpoint_nothing_is_continued(run: Path) -> None:
    for path in list_checkpoints(run / "checkpoints"):
        path.write_bytes(b"x")
    with pytest.raises(UserError, match=r"no checkpoint that can be read .*; restore one, or start a new run"):
        stages.pretrain(resume=run, **QUIET)


def test_a_run_of_an_older_medssl_is_continued_with_a_note(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in list_checkpoints(run / "checkpoints"):
        state = torch.load(path, weights_only=True)
        del state["medssl"]["identity"], state["medssl"]["monitor"]
        torch.save(state, path)
    info = json.loads((run / "run.json").read_text())
    del info["id"], info["contents"]
    (run / "run.json").write_text(json.dumps(info))
    (run / "scans.csv").unlink()
    stages.pretrain(resume=run, progress=True, page=False)
    said = capsys.readouterr().err
    assert "was written by an older medssl, which did not note in it to which run it belongs" in said
    assert "kept no checksums of its scans" in said
    assert stages.finished_at(run)


def test_a_list_of_scans_that_was_changed_or_lost_is_refused(run: Path) -> None:
    path = run / "scans.csv"
    lines = path.read_text().splitlines()
    for text, said in {
        "": "does not begin with",
        "\n".join([lines[0], "0,zz"]): "line 2 is not",
        "\n".join([lines[0], "0,00000000,1.1", *lines[2:]]): "is not the list of scans that",
    }.items():
        path.write_text(text)
        with pytest.raises(UserError, match=rf"scans\.csv.*{said}"):
            stages.pretrain(resume=run, **QUIET)
    path.unlink()
    with pytest.raises(UserError, match=r"scans\.csv does not exist"):
        stages.pretrain(resume=run, **QUIET)


def test_an_encoder_or_projector_of_another_run_is_not_taken_for_its_own(
    begun: dict[str, Path], tmp_path: Path
) -> None:
    first, second = (Path(shutil.copytree(begun[name], tmp_path / name)) for name in ("run", "other"))
    for folder in (first, second):
        stages.pretrain(resume=folder, **QUIET)
    own = (first / "projection.safetensors").read_bytes()
    shutil.copy(second / "projection.safetensors", first)
    with pytest.raises(StaleError, match=r"projection\.safetensors is not the projector that"):
        stages.embed(first, projection=True, progress=False)
    (first / "projection.safetensors").write_bytes(own)
    shutil.copy(second / "encoder.safetensors", first)
    for ask in (stages.embed, stages.score, stages.report):
        with pytest.raises(StaleError, match=r"encoder\.safetensors is not the encoder that"):
            ask(first)
