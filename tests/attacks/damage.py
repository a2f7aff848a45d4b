"""Kinds of damage to a file's bytes, by the kind of file; every file that medssl leaves has some."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path

Damage = Callable[[bytes], bytes]


class Bomb:
    """Runs when it is unpickled: makes the file that ``path`` names."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (self.path, "w")


def flip(content: bytes, place: float = 0.6) -> bytes:
    """One bit of one byte is the other way round."""
    k = int(len(content) * place)
    return content[:k] + bytes([content[k] ^ 0x10]) + content[k + 1 :]


ANY: Mapping[str, Damage] = {
    "empty": lambda _: b"",
    "cut": lambda content: content[: len(content) * 2 // 3],
    "noise": lambda _: bytes(range(256)) * 8,
    "zeros": lambda content: bytes(len(content)),
}
JSON: Mapping[str, Damage] = {
    "list": lambda _: b"[1, 2]",
    "null": lambda _: b"null",
    "number": lambda _: b"7",
    "deep": lambda _: b"[" * 100_000,
    "deep key": lambda _: b'{"a":' * 100_000,
    "empty mapping": lambda _: b"{}",
    "bad bytes": lambda content: content.replace(b'"', b'"\xff', 1),
    "long number": lambda _: b'{"seed": ' + b"9" * 5000 + b"}",
    "null values": lambda content: _values(content, lambda _: None),
    "list values": lambda content: _values(content, lambda _: [[]]),
    "text values": lambda content: _values(content, lambda _: "x"),
    "number values": lambda content: _values(content, lambda _: -1),
    "mapping values": lambda content: _values(content, lambda _: {"x": None}),
}
LINES: Mapping[str, Damage] = {name: JSON[name] for name in ("list", "null", "deep", "bad bytes")} | {
    "odd lines": lambda content: content + b'[]\n"x"\n{}\n{"step": "x"}\n{"step": null}\n',
    "half a line": lambda content: content.rstrip()[:-5],
}
YAML: Mapping[str, Damage] = {
    "list": lambda _: b"[1, 2]",
    "text": lambda _: b"hello",
    "bomb": lambda content: content + b"\nx0: &x0 [1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + _lines_of_a_bomb(),
    "recursive": lambda content: content + b"\nself: &self\n  again: *self\n",
    "deep": lambda content: content + b"\ndeep: " + b"[" * 3000 + b"]" * 3000 + b"\n",
    "python": lambda content: content + b"\ncode: !!python/object/apply:os.getcwd []\n",
    "tab": lambda content: content + b"\n\tx: 1\n",
    "twice": lambda content: content + b"\n" + content,
    "bad bytes": lambda content: content + b"\nname: \xff\n",
    "nul": lambda content: content + b"\nname: \x00\n",
    "null values": lambda content: _yaml_values(content, "null"),
    "list values": lambda content: _yaml_values(content, "[[]]"),
    "text values": lambda content: _yaml_values(content, "x"),
    "number values": lambda content: _yaml_values(content, "-1"),
    "mapping values": lambda content: _yaml_values(content, "{x: null}"),
}
TABLE: Mapping[str, Damage] = {
    "header only": lambda content: content.splitlines()[0] + b"\n",
    "no header": lambda content: b"\n".join(content.splitlines()[1:]),
    "one column": lambda content: b"\n".join(line.partition(b",")[0] for line in content.splitlines()),
    "columns twice": lambda content: b"\n".join(line + b"," + line for line in content.splitlines()),
    "ragged": lambda content: content.rstrip() + b",1,2,3\nx\n",
    "rows twice": lambda content: content + b"\n".join(content.splitlines()[1:]),
    "words": lambda content: b"\n".join(
        line if k == 0 else b",".join(b"x" for _ in line.split(b",")) for k, line in enumerate(content.splitlines())
    ),
    "empty cells": lambda content: b"\n".join(
        line if k == 0 else b"," * line.count(b",") for k, line in enumerate(content.splitlines())
    ),
    "open quote": lambda content: content.replace(b",", b',"', 1),
    "bad bytes": lambda content: content.replace(b"\n", b"\n\xff", 2),
    "nul": lambda content: content.replace(b"\n", b"\n\x00", 2),
}
FLIPS: Mapping[str, Damage] = {"flip": flip, "flip early": lambda content: flip(content, 0.02), "tail": lambda c: c + c}
PICKLE: Mapping[str, Damage] = {
    "code": lambda content: pickle.dumps(Bomb("unpickled")),
    "nested code": lambda content: pickle.dumps({"hashes": {}, "licence": Bomb("unpickled")}),
    "list": lambda _: pickle.dumps([1]),
    "none": lambda _: pickle.dumps(None),
    "wrong types": lambda _: pickle.dumps({"hashes": 7, "licence": []}),
}
CODE: Mapping[str, Damage] = {"raises": lambda _: b"raise RuntimeError('no')\n", "syntax": lambda _: b"def (\n"}

BY_SUFFIX: Mapping[str, Mapping[str, Damage]] = {
    ".json": ANY | JSON,
    ".jsonl": ANY | LINES,
    ".yaml": ANY | YAML,
    ".csv": ANY | TABLE,
    ".npy": ANY | FLIPS,
    ".npz": ANY | FLIPS,
    ".ckpt": ANY | FLIPS | PICKLE,
    ".pth": ANY | FLIPS | PICKLE,
    ".pkl": ANY | FLIPS | PICKLE,
    ".safetensors": ANY | FLIPS,
    ".nii.gz": ANY | FLIPS,
    ".py": ANY | CODE,
    ".html": ANY,
    ".md": ANY,
    ".png": ANY,
    ".svg": ANY,
}


def suffix_of(path: Path) -> str:
    """The end of a name that tells the kind of file."""
    return ".nii.gz" if path.name.endswith(".nii.gz") else path.suffix


def kinds_for(path: Path) -> Mapping[str, Damage]:
    """What is done to a file of this name."""
    return BY_SUFFIX[suffix_of(path)]


def _values(content: bytes, change: Callable[[object], object]) -> bytes:
    """Every value of the top level changed."""
    return json.dumps({key: change(value) for key, value in json.loads(content).items()}).encode()


def _yaml_values(content: bytes, value: str) -> bytes:
    """Every key of the top level with another value."""
    keys = [line.partition(b":")[0] for line in content.splitlines() if line[:1].isalpha() and b":" in line]
    return b"\n".join(key + b": " + value.encode() for key in keys) + b"\n"


def _lines_of_a_bomb() -> bytes:
    listed = [f"x{k}: &x{k} [" + ", ".join([f"*x{k - 1}"] * 9) + "]" for k in range(1, 10)]
    return "\n".join(listed).encode() + b"\n"
