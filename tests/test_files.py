from __future__ import annotations

import os
import subprocess
import sys

import pytest

from medssl.errors import UserError
from medssl.files import exclusive, is_abandoned, make_folder, write_atomic


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
