"""JSON is read whole and in form, or refused in one sentence that names file and key."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal, TypedDict

import pytest

from medssl.data.sources.bids_tree import dataset_name
from medssl.documents.json_file import parse_json, read_json, read_json_lines, sound_json
from medssl.documents.shape import checked
from medssl.errors import UserError


class Hashes(TypedDict):
    manifest: str


class Needed(TypedDict):
    state: Literal["training", "finished"]
    hashes: Hashes


class Record(Needed, total=False):
    seed: int
    loss: float | None
    sites: list[str]
    ages: dict[str, float]
    parts: list[Hashes] | None
    resumed: bool


GOOD = '"state": "finished", "hashes": {"manifest": "ab"}'
WRONG = {
    "empty": ("", "is damaged (line 1 is no valid JSON: Expecting value)"),
    "cut off": ('{\n"state": "fin', "is damaged (line 2 is no valid JSON: Unterminated string starting at)"),
    "trailing": ("{} {}", "is damaged (line 1 is no valid JSON: Extra data)"),
    "a list": ("[]", "is a list, but an object with keys is needed"),
    "null": ("null", "is null, but an object with keys is needed"),
    "a number": ("3", "is 3, but an object with keys is needed"),
    "a text": ('"run"', "is the text 'run', but an object with keys is needed"),
    "missing": ('{"state": "finished"}', "run.json lacks the key 'hashes'"),
    "missing inside": ('{"state": "finished", "hashes": {}}', ": hashes lacks the key 'manifest'"),
    "type": ('{"state": "finished", "hashes": []}', ": hashes is a list, but an object with keys is needed"),
    "inner type": ('{"state": "finished", "hashes": {"manifest": 3}}', ": hashes.manifest is 3, but text is needed"),
    "choice": ('{"state": "done", "hashes": {"manifest": ""}}', ": state is the text 'done', but must be one of"),
    "true is no integer": (f'{{{GOOD}, "seed": true}}', ": seed is true, but a whole number is needed"),
    "a fraction": (f'{{{GOOD}, "seed": 1.5}}', ": seed is 1.5, but a whole number is needed"),
    "in a list": (f'{{{GOOD}, "sites": ["a", null]}}', ": sites[1] is null, but text is needed"),
    "in a mapping": (f'{{{GOOD}, "ages": {{"b": "x"}}}}', ": ages.b is the text 'x', but a number is needed"),
    "union": (f'{{{GOOD}, "loss": "low"}}', ": loss is the text 'low', but a number or null is needed"),
    "in a union": (f'{{{GOOD}, "parts": [{{"manifest": 1}}]}}', ": parts[0].manifest is 1, but text is needed"),
    "boolean": (f'{{{GOOD}, "resumed": 1}}', ": resumed is 1, but true or false is needed"),
    "twice": (f'{{{GOOD}, "hashes": {{}}}}', "has the key 'hashes' twice in one object"),
    "NaN": (f'{{{GOOD}, "loss": NaN}}', "holds NaN, which is no number"),
    "infinite": (f'{{{GOOD}, "more": -Infinity}}', "holds -Infinity, which is no number"),
    "overflow": (f'{{{GOOD}, "more": 1e999}}', "holds the number 1e999, which is too large"),
    "huge integer": (f'{{{GOOD}, "more": {"9" * 5000}}}', "holds a whole number of 5000 digits, which is too large"),
    "deep": (f'{{{GOOD}, "more": {"[" * 90}{"]" * 90}}}', "has more than 64 levels of lists and objects"),
    "very deep": ("[" * 200_000, "has far too many levels of lists and objects"),
    "NUL": (f'{{{GOOD}, "more": "a\\u0000b"}}', "holds text with a NUL or half a character"),
    "half a character": (f'{{{GOOD}, "\\ud800": 1}}', "holds text with a NUL or half a character"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_document_is_told_in_one_sentence(name: str, tmp_path: Path) -> None:
    text, reason = WRONG[name]
    path = tmp_path / "run.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        read_json(path, Record, "train again")
    said = str(caught.value)
    assert said.startswith(str(path))
    assert reason in said
    assert said.endswith("; train again")
    assert "\n" not in said
    assert "unexpected" not in said.lower()


def test_bytes_that_are_no_text_and_files_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    with pytest.raises(UserError, match=r"run\.json does not exist; train again"):
        read_json(path, Record, "train again")
    path.write_bytes(b'{"state": "\xff"}')
    with pytest.raises(UserError, match=r"damaged \(no UTF-8 text\)"):
        read_json(path, Record, "train again")
    with pytest.raises(UserError, match=r"is no file; train again"):
        read_json(tmp_path, Record, "train again")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(UserError, match=r"is no file"):
            read_json(tmp_path / "pipe", Record, "train again")


def test_a_file_beyond_the_limit_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.json"
    path.write_text("{" + " " * (2 << 20) + "}")
    monkeypatch.setattr("medssl.documents.json_file.read_bytes.__defaults__", (1 << 20,))
    with pytest.raises(UserError, match="larger than 1 MiB"):
        read_json(path, dict, "train again")


def test_further_keys_and_a_byte_order_mark_are_kept_out_of_the_way(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text(
        f'\ufeff{{{GOOD}, "loss": 3, "sites": [], "of a later version": [1, {{"a": null}}]}}', encoding="utf-8"
    )
    content = read_json(path, Record, "train again")
    assert content["hashes"]["manifest"] == "ab"
    assert content["of a later version"] == [1, {"a": None}]  # type: ignore[typeddict-item]


def test_not_a_number_and_repeated_keys_where_they_are_allowed() -> None:
    content = parse_json('{"a": NaN, "a": [Infinity, 1e999]}', "x", "y", nan=True, repeated_keys=True)
    assert content == {"a": [float("inf"), float("inf")]}


def test_values_already_in_memory_are_checked_alike() -> None:
    content: Any = {"state": "finished", "hashes": {"manifest": "a"}, "loss": b"1"}
    with pytest.raises(UserError, match=r"^step\.ckpt: loss is b'1', but a number or null is needed; delete it$"):
        checked(content, Record, "step.ckpt", "delete it")


def test_lines_are_counted_and_a_line_cut_off_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text('{"step": 1}\n\n{"step": 2}\n{"st')
    assert read_json_lines(path, dict[str, int], "remove it") == [{"step": 1}, {"step": 2}]
    path.write_text('{"step": 1}\n{"step": "two"}\n')
    with pytest.raises(UserError, match=r"train\.jsonl line 2: step is the text 'two', but a whole number is needed"):
        read_json_lines(path, dict[str, int], "remove it")
    path.write_text('{"step": 1}\n{"step"\n')
    with pytest.raises(UserError, match=r"train\.jsonl line 2 is damaged"):
        read_json_lines(path, dict[str, int], "remove it")


def test_a_description_that_came_with_scans_says_nothing_where_it_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "dataset_description.json"
    assert sound_json(path) is None
    for text in ("{", "[" * 100_000, '{"Name": ' + "9" * 5000 + "}", '{"Name": "\\ud800"}'):
        path.write_text(text)
        assert sound_json(path) is None
        assert dataset_name(tmp_path) == ""
    path.write_text('\ufeff{"Name": "A", "Name": "B", "x": NaN}', encoding="utf-8")
    assert dataset_name(tmp_path) == "B"
