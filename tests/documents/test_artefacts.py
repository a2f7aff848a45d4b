"""Every JSON that medssl writes, damaged in every way, ends in one sentence that names the file: kind x reader."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch

from medssl.documents.json_file import read_json
from medssl.encoders.file import load_encoder, read_card, save_encoder
from medssl.errors import UserError
from medssl.experiments.benchmark.cell import CellRecord
from medssl.experiments.study.run import open_study
from medssl.experiments.study.trial import TrialRecord
from medssl.features.files import record_of, sha256
from medssl.features.table import FeatureTable
from medssl.heads.file import load_head, save_head
from medssl.report.read import read_run
from medssl.runs.folder import Run
from medssl.runs.network import network_of
from tests.encoders.checks import tiny

DEEP = '{"a": ' + "[" * 3000 + "]" * 3000 + "}"
DAMAGED = {
    "empty": b"",
    "cut off": b'{"state": "fin',
    "a list": b"[1]",
    "null": b"null",
    "a number": b"3",
    "text": b'"x"',
    "no UTF-8": b'{"state": "\xff\xfe"}',
    "a NUL": b'{"state": "a\\u0000"}',
    "half a character": b'{"state": "\\udc80"}',
    "3,000 levels": DEEP.encode(),
    "100,000 levels": b"[" * 100_000,
    "5,000 digits": b'{"seed": ' + b"9" * 5000 + b"}",
    "a key twice": b'{"state": "a", "state": "b"}',
}


def _in_run(name: str, read: Callable[[Path], object]) -> Callable[[Path, bytes], tuple[str, Callable[[], object]]]:
    def made(folder: Path, content: bytes) -> tuple[str, Callable[[], object]]:
        (folder / "recipe.yaml").write_text("method: simclr\n")
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content + (b"\n" if name.endswith("jsonl") else b""))
        return path.name, lambda: read(folder)

    return made


def _record(folder: Path, content: bytes) -> tuple[str, Callable[[], object]]:
    path = folder / "t.csv"
    path.write_text("participant_id,f0\na,1\n")
    record_of(path).write_bytes(content)
    return "t.csv.json", lambda: FeatureTable.read(path)


def _npz(folder: Path, content: bytes) -> tuple[str, Callable[[], object]]:
    path = folder / "t.npz"
    text = content.decode("utf-8", "replace").replace("\ufffd", "\x01")
    names = {"columns": np.array(["participant_id"]), "meta000": np.array(["a"])}
    np.savez(path, values=np.ones((1, 1), np.float32), provenance=np.array(text), **names)
    return "t.npz", lambda: FeatureTable.read(path)


def _safetensors(key: str, read: Callable[[Path], object]) -> Callable[[Path, bytes], tuple[str, Callable[[], object]]]:
    def made(folder: Path, content: bytes) -> tuple[str, Callable[[], object]]:
        path = folder / "w.safetensors"
        safetensors.torch.save_file({"w": torch.zeros(1)}, path, {key: content.decode("utf-8", "replace")})
        return "w.safetensors", lambda: read(path)

    return made


def _plain(name: str, shape: Any) -> Callable[[Path, bytes], tuple[str, Callable[[], object]]]:
    def made(folder: Path, content: bytes) -> tuple[str, Callable[[], object]]:
        (folder / name).write_bytes(content)
        return name, lambda: read_json(folder / name, shape, "delete it", nan=True)

    return made


READERS = {
    "run.json": _in_run("run.json", lambda folder: Run(folder).read_info()),
    "run.json of a report": _in_run("run.json", read_run),
    "scores.json of a report": _in_run("scores.json", read_run),
    "messages of a report": _in_run("logs/messages.jsonl", read_run),
    "a log of a report": _in_run("logs/train.jsonl", read_run),
    "study.json": _in_run("study.json", open_study),
    "trial.json": _plain("trial.json", TrialRecord),
    "cell.json": _plain("cell.json", CellRecord),
    "the record of a table": _record,
    "the provenance in an npz": _npz,
    "the card of an encoder": _safetensors("medssl_card", read_card),
    "the card of a loaded encoder": _safetensors("medssl_card", load_encoder),
    "the card of a head": _safetensors("medssl_head", load_head),
}


@pytest.mark.parametrize("damage", DAMAGED)
@pytest.mark.parametrize("reader", READERS)
def test_a_damaged_artefact_is_one_sentence_that_names_it(reader: str, damage: str, tmp_path: Path) -> None:
    if damage == "empty" and "a report" in reader and ("messages" in reader or "log" in reader):
        pytest.skip("a log without a line is a log")
    name, read = READERS[reader](tmp_path, DAMAGED[damage])
    with pytest.raises(UserError) as caught:
        read()
    said = str(caught.value)
    assert name in said
    assert "\n" not in said
    assert "unexpected" not in said.lower()
    assert len(said) < 600
    said.encode()


WRONG_CARDS = [
    ({"encoder": {"name": 3}}, "encoder.name is 3, but text"),
    ({"preprocessing": []}, "preprocessing is a list, but an object"),
    ({"images": [1]}, r"images\[0\] is 1, but text"),
    ({"columns": {"names": ["a"]}}, "columns lacks the key 'mean'"),
    ({"recipe": []}, "recipe is a list, but an object"),
    ({"recipe": {"data": {"cache": 3}}}, "recipe.data.cache is 3, but text or null"),
    ({"recipe": {"views": {"policy": 3}}}, "recipe.views.policy is 3, but text or a list"),
    ({"training": {"manifests": "m.csv"}}, "training.manifests is the text 'm.csv', but a list"),
    ({"hashes": {"recipe": None}}, "hashes.recipe is null, but text"),
    ({"likeness": 3}, "likeness is 3, but an object with keys or null"),
]


@pytest.mark.parametrize(("change", "words"), WRONG_CARDS)
def test_a_card_is_checked_key_by_key_before_it_is_used(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    path = tmp_path / "encoder.safetensors"
    save_encoder(tiny("resnet18"), path, {"preprocessing": {}})
    with safetensors.safe_open(path, framework="pt") as file:
        card = json.loads(file.metadata()["medssl_card"])
        del card["sha256"]
        weights = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    safetensors.torch.save_file(weights, path, {"medssl_card": json.dumps(card | change)})
    for read in (read_card, load_encoder, lambda p: network_of(p, False)):
        with pytest.raises(UserError, match=rf"encoder\.safetensors: its card: {words}"):
            read(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "cnn"}, "kind is the text 'cnn', but must be one of mlp, linear"),
        ({"dims": "8"}, "dims is the text '8', but a list"),
        ({"dims": [4, "8"]}, r"dims\[1\] is the text '8', but a whole number"),
        ({"normalise": 1}, "normalise is 1, but true or false"),
        ({"dims": [4, 10**12]}, "larger than its weights"),
        ({"dims": [4]}, "no projector"),
        ({"dims": [4, -8]}, "no projector"),
    ],
)
def test_the_card_of_a_head_is_checked_before_memory_is_taken(
    change: dict[str, Any], words: str, tmp_path: Path
) -> None:
    path = tmp_path / "projection.safetensors"
    save_head(torch.nn.Linear(4, 8), path, normalise=True)
    with safetensors.safe_open(path, framework="pt") as file:
        card = json.loads(file.metadata()["medssl_head"])
        del card["sha256"]
        weights = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    safetensors.torch.save_file(weights, path, {"medssl_head": json.dumps(card | change)})
    with pytest.raises(UserError, match=words):
        load_head(path)


@pytest.mark.parametrize(
    ("provenance", "words"),
    [
        ([], "provenance is a list"),
        ({"manifests": "m.csv"}, "provenance.manifests is the text"),
        ({"manifests": [None]}, r"provenance.manifests\[0\] is null"),
        ({"weights": [1.0]}, "1 weights of other manifests"),
        ({"skipped_rows": [1.5]}, r"skipped_rows\[0\] is 1.5"),
        ({"preprocessing": "x"}, "preprocessing is the text"),
    ],
)
def test_the_provenance_of_a_table_is_checked_key_by_key(provenance: Any, words: str, tmp_path: Path) -> None:
    path = FeatureTable(pd.DataFrame({"participant_id": ["a"]}), np.ones((1, 1), np.float32), {}).write(
        tmp_path / "t.csv"
    )
    record_of(path).write_text(json.dumps({"sha256": sha256(path), "provenance": provenance}))
    with pytest.raises(UserError, match=words):
        FeatureTable.read(path)
