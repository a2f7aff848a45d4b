"""metadata.pkl is read as plain values; what it asks to be called never is."""

from __future__ import annotations

import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from medssl.errors import UserError
from medssl.export import metadata
from medssl.export.metadata import Opaque, read_metadata

PLAIN = {
    "made_by": "medssl",
    "hashes": {"estimator.py": "ab"},
    "configuration": {"shape": (1, 2.5, None, True, [1, -2, []], (), (1,), {}), "é": "日本", "big": 2**40},
}


class Calls:
    """What an unpickler would call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


def doubled(times: int) -> dict[str, Any]:
    """A few hundred bytes that stand for 2**times values."""
    value: dict[str, Any] = {"x": "y"}
    for _ in range(times):
        value = {"a": value, "b": value}
    return value


def itself() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value["a"] = value
    return value


WRONG = {
    "a call": (pickle.dumps(Calls(os.system, "touch EVIL")), "asks for '(posix|nt).system', which is code"),
    "a call inside": (pickle.dumps({"hashes": Calls(eval, "open('EVIL', 'w')")}), "asks for 'builtins.eval'"),
    "a call, text protocol": (b"cos\nsystem\n(S'touch EVIL'\ntR.", r"asks for 'os\.system'"),
    "a call, INST": (b"(S'touch EVIL'\nios\nsystem\n.", r"asks for 'os\.system'"),
    "an encoder": (b"c_codecs\nencode\n.", "asks for '_codecs.encode'"),
    "numbers of numpy": (pickle.dumps({"a": np.float64(3)}), "inside plain values"),
    "a persistent object": (b"Pabc\n.", "uses the instruction PERSID"),
    "an extension": (b"\x80\x04\x82\x01.", "uses the instruction EXT1"),
    "a set": (pickle.dumps({"a": {1}}), "uses the instruction EMPTY_SET"),
    "bytes": (pickle.dumps({"a": b"12"}), "holds bytes, which is no plain value"),
    "a number as key": (pickle.dumps({1: 2}), "has the key 1, which is no text"),
    "references that multiply": (pickle.dumps(doubled(40)), "stands for more than"),
    "itself": (pickle.dumps(itself()), "more than 64 levels, or contains itself"),
    "levels": (pickle.dumps({"a": nested(200)}), "more than 64 levels"),
    "100,000 levels": (b"]" * 100_000 + b"a" * 99_999 + b".", "more than 64 levels"),
    "marks": (b"(" * 100_000 + b".", "damaged or cut off"),
    "a huge number": (pickle.dumps({"a": 1 << 100_000}), "a whole number of more than 64 bits"),
    "5,000 digits": (b"L" + b"9" * 5000 + b"L\n.", "damaged or cut off"),
    "half a character": (pickle.dumps({"a": "\ud800"}), "half a character"),
    "cut off": (pickle.dumps(PLAIN)[:40], "damaged or cut off"),
    "empty": (b"", "damaged or cut off"),
    "text": (b"hello", "damaged or cut off"),
    "a memo of 16 GB": (b"\x80\x04]r\xff\xff\xff\x7f.", "is a list, but an object"),
    "bytes that are not there": (b"\x80\x05\x96" + struct.pack("<Q", 1 << 62) + b".", "damaged or cut off"),
    "an unknown reference": (b"h\x05.", "damaged or cut off"),
    "values into none": (b"N(NNu.", "damaged or cut off"),
    "a list": (pickle.dumps([1]), "is a list, but an object"),
    "a wrong key": (pickle.dumps({"hashes": [1]}), "hashes is a list, but an object"),
    "a wrong inner key": (pickle.dumps({"hashes": {"weights.pth": 1}}), r"hashes\.weights\.pth is 1, but text"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_plain_value_is_refused_by_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(metadata, "MOST_VALUES", 20_000 if name == "references that multiply" else 200_000)
    content, words = WRONG[name]
    path = tmp_path / "metadata.pkl"
    path.write_bytes(content)
    with pytest.raises(UserError, match=words) as caught:
        read_metadata(path)
    assert str(caught.value).startswith(str(path))
    assert str(caught.value).endswith("write the submission again with `medssl openbhb export`")
    assert [p.name for p in tmp_path.iterdir()] == ["metadata.pkl"], "nothing was called"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_are_those_that_were_written(protocol: int, tmp_path: Path) -> None:
    path = tmp_path / "metadata.pkl"
    path.write_bytes(pickle.dumps(PLAIN, protocol=protocol))
    assert read_metadata(path) == PLAIN
    shared = ["one"]
    path.write_bytes(pickle.dumps({"a": shared, "b": shared}, protocol=protocol))
    assert read_metadata(path) == {"a": ["one"], "b": ["one"]}


@pytest.mark.parametrize("protocol", range(3, pickle.HIGHEST_PROTOCOL + 1))
def test_a_table_of_pandas_is_named_and_not_made(protocol: int, tmp_path: Path) -> None:
    path = tmp_path / "metadata.pkl"
    frame = pd.DataFrame({"name": ["a", "b"], "value": [1.0, 2.0], "n": [1, 2]})
    path.write_bytes(pickle.dumps(frame, protocol=protocol))
    content = read_metadata(path)
    assert isinstance(content, Opaque)
    assert content.name.startswith("pandas.")


def test_a_file_beyond_the_limit_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "LARGEST_BYTES", 1 << 20)
    path = tmp_path / "metadata.pkl"
    path.write_bytes(pickle.dumps({"a": "x" * (2 << 20)}))
    with pytest.raises(UserError, match="larger than 1 MiB"):
        read_metadata(path)
