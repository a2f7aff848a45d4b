from __future__ import annotations

import json
from pathlib import Path

import pytest

from medssl.training import log as module
from medssl.training.log import Log


def test_a_log_is_the_same_table_for_people_and_for_programs(tmp_path: Path):
    log = Log(tmp_path, "train")
    log.write({"step": 1, "loss": 0.5, "std": float("nan")})
    log.write({"step": 2, "loss": float("inf"), "std": 0.25, "late": 7})
    assert (tmp_path / "train.csv").read_text() == "step,loss,std\n1,0.5,\n2,,0.25\n"
    rows = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()]
    assert rows[0] == {"step": 1, "loss": 0.5, "std": None}
    assert rows[1] == {"step": 2, "loss": None, "std": 0.25, "late": 7}


def test_rewinding_drops_later_rows_and_a_half_written_line(tmp_path: Path):
    log = Log(tmp_path, "train")
    for step in (1, 2, 3):
        log.write({"step": step, "loss": float(step)})
    with (tmp_path / "train.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')
    again = Log(tmp_path, "train")
    again.rewind(2)
    again.write({"step": 3, "loss": 9.0})
    assert [r["loss"] for r in map(json.loads, (tmp_path / "train.jsonl").read_text().splitlines())] == [
        1.0,
        2.0,
        9.0,
    ]
    assert (tmp_path / "train.csv").read_text().splitlines() == ["step,loss", "1,1.0", "2,2.0", "3,9.0"]


def test_going_back_replaces_the_files_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    log = Log(tmp_path, "train")
    for step in (1, 2, 3):
        log.write({"step": step, "loss": float(step)})
    before = (tmp_path / "train.jsonl").read_bytes()

    def dies(path: Path, text: str) -> None:
        if path.suffix == ".jsonl":
            raise KeyboardInterrupt

    monkeypatch.setattr(module, "write_atomic", dies)
    with pytest.raises(KeyboardInterrupt):
        Log(tmp_path, "train").rewind(1)
    assert (tmp_path / "train.jsonl").read_bytes() == before, "the rows that were there are still there"
    monkeypatch.undo()
    assert [row["step"] for row in Log(tmp_path, "train").rewind(1)] == [1]
    assert Log(tmp_path, "train").rewind(0) == []
    assert list(tmp_path.iterdir()) == []


def test_lines_that_are_no_rows_are_left_out(tmp_path: Path):
    (tmp_path / "train.jsonl").write_bytes(b'[1]\n\xff\nnull\n{"step": "x"}\n{"step": 1, "loss": 2.0}\n{"st')
    (tmp_path / "train.csv").write_text("strange")
    assert Log(tmp_path, "train").rewind(5) == [{"step": 1, "loss": 2.0}]
    assert (tmp_path / "train.csv").read_text() == "step,loss\n1,2.0\n"


@pytest.mark.parametrize("line", [b'{"\xffstep": 1, "loss": 3.0}\n', b"[" * 100_000 + b"\n"])
def test_a_line_that_is_damaged_is_no_row(tmp_path: Path, line: bytes):
    (tmp_path / "train.jsonl").write_bytes(line + b'{"step": 1, "loss": 2.0}\n')
    log = Log(tmp_path, "train")
    assert log.rewind(5) == [{"step": 1, "loss": 2.0}]
    assert log.rows == 1
