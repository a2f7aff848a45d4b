"""Where a features table may be written."""

from __future__ import annotations

from pathlib import Path

import pytest

from medssl.errors import UserError
from medssl.features.files import check_target, refuse_foreign_table


@pytest.mark.parametrize("look", [check_target, lambda path: refuse_foreign_table(path, [])])
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "is a folder, but a feature table needs a file name such as"),
        ("folder", "is a folder, but a feature table needs a file name such as"),
        ("table.xlsx", r"must end in .csv, .tsv, .npz, .parquet, not '.xlsx'"),
        (f"{'x' * 300}.csv", "too many for a file; shorten it"),
    ],
)
def test_names_under_which_no_table_can_be_written_are_refused(
    look, name: str, words: str, tmp_path: Path, monkeypatch
):
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=words):
        look(Path(name))
