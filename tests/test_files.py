from __future__ import annotations

import contextlib
import errno
import io
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.lib import format as npy

from medssl import files
from medssl.errors import UserError
from medssl.files import append_text, exclusive, is_abandoned, make_folder, said, write_atomic


def test_a_file_is_whole_or_absent(tmp_path):
    target = tmp_path / "new" / "a.bin"
    write_atomic(target, lambda file: file.write(b"one"))
    assert target.read_bytes() == b"one"

    def fail(file):
        file.write(b"half")
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        write_atomic(target, fail)
    assert target.read_bytes() == b"one"
    assert os.listdir(target.parent) == ["a.bin"]


def test_a_full_disk_and_a_forbidden_folder_are_one_sentence_with_the_remedy(tmp_path):
    def full(file):
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match=r"no space left in .* writing a\.bin; free some space or buy a disk"):
        write_atomic(tmp_path / "a.bin", full, "buy a disk")
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match=r"cannot be written .*; allow writing there or choose another folder"):
        write_atomic(tmp_path / "file" / "a.bin", lambda file: file.write(b""))
    with pytest.raises(OSError, match="strange"):
        write_atomic(tmp_path / "a.bin", lambda file: (_ for _ in ()).throw(OSError(22, "strange")))
    assert os.listdir(tmp_path) == ["file"]


def test_a_temporary_is_abandoned_when_its_writer_is_gone(tmp_path):
    seen = []
    write_atomic(tmp_path / "a.bin", lambda file: seen.append(file.name))
    live = tmp_path / os.path.basename(seen[0])
    live.touch()
    assert not is_abandoned(live)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    dead = tmp_path / live.name.replace(f".{os.getpid()}.", f".{gone.pid}.")
    dead.touch()
    assert is_abandoned(dead)


def test_a_temporary_of_another_machine_is_abandoned_after_a_day(tmp_path):
    foreign = tmp_path / ".a.bin.elsewhere-9.1.abcd.tmp"
    foreign.touch()
    assert not is_abandoned(foreign)
    os.utime(foreign, (1, 1))
    assert is_abandoned(foreign)
    assert not is_abandoned(tmp_path / ".b.bin.elsewhere-9.1.abcd.tmp")


def test_a_folder_is_refused_where_a_file_is_written(tmp_path):
    (tmp_path / "c").mkdir()
    with pytest.raises(UserError, match="c is a folder; give a file name"):
        write_atomic(tmp_path / "c", lambda file: file.write(b""))
    assert os.listdir(tmp_path) == ["c"]


def test_text_and_bytes_are_written_as_they_are(tmp_path):
    assert write_atomic(tmp_path / "a.txt", "ä\n", durable=True).read_bytes() == "ä\n".encode()
    assert write_atomic(tmp_path / "a.txt", b"\x00\xff").read_bytes() == b"\x00\xff"


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path):
    assert make_folder(tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").write_text("x")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match=r"cannot be written .* or choose another folder"):
            make_folder(place)


HOLDER = """
import sys, time
from pathlib import Path
from medssl.files import exclusive
with exclusive(Path(sys.argv[1]), "this"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_one_process_at_a_time_holds_a_lock_and_a_killed_one_frees_it(tmp_path):
    path = tmp_path / "new" / ".lock"
    with exclusive(path, "this"):
        assert path.is_file()
    assert not path.exists()
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(UserError, match="another process is writing the run; wait"), exclusive(path, "the run"):
        pass
    assert path.is_file()
    holder.kill()
    holder.wait()
    with exclusive(path, "the run"):
        pass
    assert not path.exists()


def _text(file):
    wrapper = io.TextIOWrapper(file, encoding="utf-8", newline="")
    wrapper.write("x" * 100_000)
    wrapper.flush()
    wrapper.detach()


def _parquet(file):
    pytest.importorskip("pyarrow")
    pd.DataFrame({"a": np.random.default_rng(0).normal(size=50_000)}).to_parquet(file)


def _hiding(file):
    with contextlib.suppress(OSError):
        for _ in range(100):
            file.write(b"x" * 10_000)


WRITERS = {
    "a small array": lambda file: np.save(file, np.ones(3)),
    "a large array": lambda file: np.save(file, np.ones(1_000_000)),
    "an array of the cache": lambda file: npy.write_array(file, np.ones(300_000, "<f4"), version=(1, 0)),
    "an array in columns": lambda file: np.save(file, np.asfortranarray(np.ones((999, 999)))),
    "arrays": lambda file: np.savez(file, a=np.ones(200_000)),
    "compressed arrays": lambda file: np.savez_compressed(file, a=np.random.default_rng(0).normal(size=200_000)),
    "weights": lambda file: torch.save({"a": torch.ones(200_000)}, file),
    "a little": lambda file: file.write(b"x"),
    "text": _text,
    "parquet": _parquet,
    "a library that hides it": _hiding,
    "bytes": b"x" * 100_000,
    "a sentence": "x" * 100_000,
}


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="/dev/full, a disk that is always full, is Linux's")
@pytest.mark.parametrize("name", WRITERS)
def test_whatever_is_written_to_a_full_disk_is_one_sentence(name, tmp_path, monkeypatch):
    def opened(path, mode):
        assert mode == "xb"
        return open("/dev/full", "wb")

    monkeypatch.setattr(files, "open", opened, raising=False)
    (tmp_path / "a.bin").write_bytes(b"before")
    with pytest.raises(UserError, match=r"^no space left in .* while writing a\.bin; free some space or buy a disk$"):
        write_atomic(tmp_path / "a.bin", WRITERS[name], "buy a disk")
    assert (tmp_path / "a.bin").read_bytes() == b"before"


@pytest.fixture
def small_files():
    """Files of at most 50 kB in this process."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("name", [name for name in WRITERS if name not in ("a small array", "a little")])
def test_a_file_beyond_the_limit_of_its_size_is_one_sentence_and_not_there(name, tmp_path, small_files):
    with pytest.raises(UserError, match=r"a\.bin became larger than this disk, or .* allows for one file; raise"):
        write_atomic(tmp_path / "a.bin", WRITERS[name])
    assert os.listdir(tmp_path) == []


def test_what_is_written_is_what_a_plain_file_would_hold(tmp_path):
    for name, content in WRITERS.items():
        if callable(content) and "hides" not in name and (name != "parquet" or find_spec("pyarrow")):
            with open(tmp_path / "plain", "wb") as file:
                content(file)
            write_atomic(tmp_path / "ours", content)
            assert (tmp_path / "ours").read_bytes() == (tmp_path / "plain").read_bytes(), name


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError("12 requested and 4 written"), "no space left"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "no space left"),
        (
            OSError(errno.EIO, "Input/output error"),
            r"the disk failed while .*a\.bin was written \(input/output error\)",
        ),
        (OSError(errno.ESTALE, "Stale file handle"), "the disk failed"),
        (OSError(errno.EFBIG, "File too large"), "became larger"),
        (OSError(errno.EROFS, "Read-only file system"), r"cannot be written \(read-only file system\)"),
    ],
)
def test_errors_of_a_disk_are_told_by_what_helps(error, words, tmp_path):
    def fail(file):
        raise error

    with pytest.raises(UserError, match=words):
        write_atomic(tmp_path / "a.bin", fail)
    with pytest.raises(OSError, match="other"), said(tmp_path / "a", "x"):
        raise OSError("other")


def test_lines_are_added_at_the_end_or_refused_in_a_sentence(tmp_path):
    append_text(tmp_path / "log", "a\n")
    append_text(tmp_path / "log", "é\r\n")
    assert (tmp_path / "log").read_bytes() == "a\né\r\n".encode()
    if os.path.exists("/dev/full"):
        (tmp_path / "full").symlink_to("/dev/full")
        with pytest.raises(UserError, match=r"no space left in .* while writing full"):
            append_text(tmp_path / "full", "a\n")


def test_a_device_or_a_pipe_is_never_replaced_by_a_file(tmp_path: Path):
    (tmp_path / "device").symlink_to(os.devnull)  # a link, so that a mistake costs the link
    os.mkfifo(tmp_path / "pipe")
    for name in ("device", "pipe"):
        with pytest.raises(UserError, match=f"{name} is a device or a pipe, which a file would replace; give a file"):
            write_atomic(tmp_path / name, b"x")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["device", "pipe"]
    assert (tmp_path / "device").is_symlink()
