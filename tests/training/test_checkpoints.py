from __future__ import annotations

import errno
from pathlib import Path
from zipfile import ZipFile

import pytest
import torch

from medssl.errors import UserError
from medssl.training.checkpoints import (
    checkpoint_name,
    how_to_continue,
    list_checkpoints,
    newest_checkpoint,
    prune_checkpoints,
    write_checkpoint,
)
from medssl.training.hardware.launch import SafeFiles


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "recipe.yaml").write_text("method: simclr\n")
    for step in (3, 20, 100):
        state = {"step": step, "weight": torch.ones(3) * step}
        write_checkpoint(state, tmp_path / "checkpoints" / checkpoint_name(step))
    return tmp_path


def test_a_checkpoint_comes_back_as_it_was_and_leaves_no_temporary(run: Path):
    state = torch.load(run / "checkpoints" / checkpoint_name(20), weights_only=True)
    assert torch.equal(state["weight"], torch.full((3,), 20.0))
    assert sorted(p.name for p in (run / "checkpoints").iterdir()) == [
        "step-00000003.ckpt", "step-00000020.ckpt", "step-00000100.ckpt",
    ]  # fmt: skip


def test_a_full_disk_leaves_the_checkpoint_before_and_no_half_one(run: Path, monkeypatch: pytest.MonkeyPatch):
    def full(state, file) -> None:
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    path = run / "checkpoints" / checkpoint_name(100)
    before = path.read_bytes()
    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        write_checkpoint({"step": 100}, path)
    with pytest.raises(OSError, match="No space left"):
        write_checkpoint({"step": 101}, run / "checkpoints" / checkpoint_name(101))
    assert path.read_bytes() == before
    assert len(list((run / "checkpoints").iterdir())) == 3


def test_the_newest_by_step_is_resumed_and_half_written_ones_are_not_seen(run: Path):
    (run / "checkpoints" / ".step-00000200.ckpt.77.tmp").write_bytes(b"half")
    (run / "checkpoints" / "notes.txt").write_text("mine")
    assert newest_checkpoint(run).name == "step-00000100.ckpt"
    assert list_checkpoints(run / "checkpoints")[0].name == "step-00000003.ckpt"


def test_only_the_last_few_are_kept_and_leftovers_go(run: Path):
    folder = run / "checkpoints"
    (folder / ".step-00000200.ckpt.77.tmp").write_bytes(b"half")
    (folder / "notes.txt").write_text("mine")
    prune_checkpoints(folder, 2)
    assert sorted(p.name for p in folder.iterdir()) == [
        "notes.txt",
        "step-00000020.ckpt",
        "step-00000100.ckpt",
    ]
    prune_checkpoints(folder, 0)
    assert [p.name for p in list_checkpoints(folder)] == ["step-00000100.ckpt"]


def test_what_cannot_be_resumed_says_what_to_give_instead(tmp_path: Path):
    with pytest.raises(UserError, match="no run folder"):
        newest_checkpoint(tmp_path)
    (tmp_path / "recipe.yaml").write_text("method: simclr\n")
    with pytest.raises(UserError, match="no checkpoint yet; start it again"):
        newest_checkpoint(tmp_path)


def test_after_ctrl_c_the_sentence_names_the_run_and_the_step(run: Path, tmp_path: Path):
    assert how_to_continue(run) == f"stopped by hand; continue after step 100 with `medssl pretrain --resume {run}`"
    assert "start" in how_to_continue(tmp_path / "other")


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", None])
def test_a_damaged_checkpoint_is_named_with_the_way_out(run: Path, content: bytes | None):
    path = run / "checkpoints" / checkpoint_name(100)
    path.write_bytes(path.read_bytes()[:-200] if content is None else content)
    with pytest.raises(UserError, match=r"step-00000100\.ckpt is damaged .*delete it"):
        SafeFiles().load_checkpoint(path)


def test_a_flipped_bit_in_a_checkpoint_is_seen(run: Path):
    path = run / "checkpoints" / checkpoint_name(100)
    content = bytearray(path.read_bytes())
    with ZipFile(path) as archive:
        names = [i for i in archive.infolist() if "/data/" in i.filename]
        weight = archive.read(max(names, key=lambda i: i.file_size))
    content[content.index(weight)] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(UserError, match=r"step-00000100\.ckpt is damaged .*checksum"):
        SafeFiles().load_checkpoint(path)


def test_a_checkpoint_that_would_run_code_is_refused(run: Path):
    path = run / "checkpoints" / checkpoint_name(101)
    torch.save({"path": Path("x")}, path)
    with pytest.raises(UserError, match="damaged"):
        SafeFiles().load_checkpoint(path)
