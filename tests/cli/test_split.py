"""`cohort split`: rows with the same features, names that would steer a terminal, several at once."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medssl.data.manifest.cohort import Cohort
from medssl.errors import UserError
from medssl.files import write_atomic
from tests.cli.conftest import Told, one_sentence
from tests.data.manifest.test_twins import TWINS, measures


def sides(path: Path) -> list[str]:
    return pd.read_csv(path, dtype=str, keep_default_na=False)["split"].tolist()


@pytest.mark.oddity("one-scan-in-a-split")
def test_rows_of_a_table_with_the_same_features_stay_on_one_side(tmp_path: Path, medssl: Callable[..., Told]):
    table = measures(tmp_path / "t.csv", TWINS)
    cells = pd.read_csv(table, dtype=str)
    cells.loc[[0, 60], "r3_thickness"] = ""  # an empty cell hides no pair
    cells.to_csv(table, index=False)
    _, out, _ = medssl("cohort", "check", table, "--columns", "*_thickness", "--all", "--quiet")
    assert "has the same features as" in " ".join(out.split())
    assert "`medssl cohort split --columns` with the same patterns does" in " ".join(out.split())
    status, out, _ = medssl("cohort", "split", table, "-o", tmp_path / "plain.csv", "--seed", 1)
    assert status == 0
    assert "note: rows with the same features were not looked for" in out
    plain = sides(tmp_path / "plain.csv")
    assert any(plain[one] != plain[other] for one, other in TWINS)
    command = ("cohort", "split", table, "-o", tmp_path / "kept.csv", "--seed", 1, "--columns", "*_thickness")
    status, out, _ = medssl(*command)
    assert status == 0
    kept = sides(tmp_path / "kept.csv")
    assert all(kept[one] == kept[other] for one, other in TWINS)
    assert f"note: {2 * len(TWINS)} rows have the same features as others, and stay on their side" in out
    assert "not looked for" not in out
    assert """exponential_roi 'data.columns=["*_thickness"]' data.manifest=""" in out
    assert "scan_digest" not in (tmp_path / "kept.csv").read_text()
    assert "nothing_*" in one_sentence(medssl(*command[:-1], "nothing_*", "--overwrite"))


@pytest.mark.oddity("two-family-columns")
def test_a_group_that_stands_in_two_columns_is_written_as_one(tmp_path: Path, medssl: Callable[..., Told]):
    table = measures(tmp_path / "t.csv", ())
    cells = pd.read_csv(table, dtype=str).assign(Family="", FAMILY="")
    cells.loc[:39, "Family"], cells.loc[40:79, "FAMILY"] = [f"F{k}" for k in range(40)], [f"F{k}" for k in range(40)]
    cells.to_csv(table, index=False)
    status, out, _ = medssl("cohort", "split", table, "-o", tmp_path / "s.csv", "--group", "Family")
    assert status == 0
    assert "were read as one column family" in out
    kept = sides(tmp_path / "s.csv")
    assert all(kept[k] == kept[k + 40] or "" in (kept[k], kept[k + 40]) for k in range(40))
    assert Cohort.read(tmp_path / "s.csv", images=False).table["family"][40] == "F0"


@pytest.mark.oddity("characters-that-steer-a-terminal")
def test_no_name_of_a_manifest_steers_the_terminal(tmp_path: Path, medssl: Callable[..., Told]):
    table = measures(tmp_path / "t.csv", ())
    cells = pd.read_csv(table, dtype=str)
    cells["site"] = cells["site"].replace({"s1": "\x1b]0;owned\x07\x1b[31mS"})
    cells["\x1b[2Jnote"] = "x"
    cells.to_csv(table, index=False)
    for command in (("split", table, "-o", tmp_path / "s.csv"), ("check", table, "--columns", "*_thickness")):
        _, out, err = medssl("cohort", *command)
        assert "\x1b" not in out + err
        assert "\x07" not in out + err
    _, out, _ = medssl("cohort", "split", table, "-o", tmp_path / "s.csv", "--overwrite")
    assert r"\x1b]0;owned\x07\x1b[31mS" in out
    odd = tmp_path / "two\nlines"
    odd.mkdir()
    _, out, _ = medssl("cohort", "split", table, "-o", odd / "s.csv")
    assert r"two\nlines" in out


def test_only_one_place_prints_for_the_commands():
    import medssl.cli

    folder = Path(medssl.cli.__file__).parent
    assert [p.name for p in folder.glob("*.py") if "typer.echo" in p.read_text() or "print(" in p.read_text()] == [
        p.name for p in folder.glob("*.py") if p.name in ("findings.py", "parse.py")
    ]


def test_of_several_splits_into_one_file_one_wins_and_the_others_say_so(tmp_path: Path):
    table = measures(tmp_path / "t.csv", ())
    code = "import sys; from medssl import cli; sys.argv = ['medssl', *sys.argv[1:]]; input(); cli.main()"
    out = tmp_path / "sp.csv"
    command = [sys.executable, "-c", code, "cohort", "split", str(table), "-o", str(out)]
    several = [
        subprocess.Popen([*command, "--seed", str(k)], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for k in range(3)
    ]
    for process in several:
        process.stdin.write("\n")
        process.stdin.flush()
    told = [process.communicate()[1] for process in several]
    assert sorted(process.returncode for process in several)[:2] != [0, 0], told
    assert sum("exists" in text and "--overwrite" in text for text in told) == 2
    assert list(tmp_path.glob(".*")) == []


def test_a_file_that_appears_while_another_is_written_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def meanwhile(file: object) -> None:
        file.write(b"ours")  # type: ignore[attr-defined]
        (tmp_path / "a.csv").write_text("theirs")

    for links in (True, False):
        if not links:  # a file system that knows none
            monkeypatch.setattr("os.link", lambda *_: (_ for _ in ()).throw(PermissionError("no links here")))
        with pytest.raises(UserError, match=r"a\.csv exists; another process wrote it meanwhile, so name another file"):
            write_atomic(tmp_path / "a.csv", meanwhile, replace=False)
        assert (tmp_path / "a.csv").read_text() == "theirs"
        assert write_atomic(tmp_path / "b.csv", "ours", replace=False).read_text() == "ours"
        (tmp_path / "a.csv").unlink()
        (tmp_path / "b.csv").unlink()
        assert list(tmp_path.iterdir()) == []


def test_the_numbers_of_a_split_without_equal_rows_are_those_of_before(tmp_path: Path, medssl: Callable[..., Told]):
    table = measures(tmp_path / "t.csv", ())
    for name, more in (("a.csv", ()), ("b.csv", ("--columns", "*_thickness"))):
        medssl("cohort", "split", table, "-o", tmp_path / name, "--seed", 1, *more)
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    assert np.unique(sides(tmp_path / "a.csv")).tolist() == ["external_test", "internal_test", "train"]
