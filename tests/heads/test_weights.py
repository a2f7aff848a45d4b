from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import torch

from medssl.errors import UserError
from medssl.heads.weights import digest_of, read_weights, write_weights

WEIGHTS = {"b": torch.arange(3), "a": torch.ones(2, 2, dtype=torch.bfloat16), "c": torch.tensor(1.5)}


def test_weights_of_all_kinds_and_the_card_come_back(tmp_path):
    write_weights(tmp_path / "deep" / "w.safetensors", WEIGHTS, "card", {"x": [1, None, "ü"]})
    card, weights = read_weights(tmp_path / "deep" / "w.safetensors", "card")
    assert card == {"x": [1, None, "ü"]}
    assert digest_of(weights) == digest_of(WEIGHTS)
    assert read_weights(tmp_path / "deep" / "w.safetensors", "card", tensors=False)[1] == {}


def test_digest_depends_on_names_shapes_types_and_values_not_on_order():
    base = {"a": torch.zeros(4), "b": torch.ones(2)}
    same = {"b": torch.ones(2), "a": torch.zeros(4)}
    others = [
        {"a": torch.zeros(4), "c": torch.ones(2)},
        {"a": torch.zeros(2, 2), "b": torch.ones(2)},
        {"a": torch.zeros(4, dtype=torch.int32), "b": torch.ones(2)},
        {"a": torch.zeros(4), "b": torch.ones(2) * 2},
    ]
    assert digest_of(base) == digest_of(same)
    assert len({digest_of(w) for w in [base, *others]}) == 5


@pytest.mark.parametrize("tensors", [True, False])
def test_a_changed_letter_of_the_card_is_noticed(tensors: bool, tmp_path: Path):
    path = tmp_path / "w.safetensors"
    write_weights(path, WEIGHTS, "card", {"spacing": 4})
    content = path.read_bytes()
    path.write_bytes(content.replace(b'spacing\\":4', b'spacing\\":8'))
    assert path.read_bytes() != content
    with pytest.raises(UserError, match=r"w\.safetensors is damaged: the checksum of its card is wrong; copy or write"):
        read_weights(path, "card", tensors)


def test_a_changed_byte_of_the_weights_is_noticed(tmp_path: Path):
    path = tmp_path / "w.safetensors"
    write_weights(path, WEIGHTS, "card", {})
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="the checksum of its weights is wrong"):
        read_weights(path, "card")


def test_a_file_without_checksums_is_read(tmp_path: Path):
    safetensors.torch.save_file({"a": torch.ones(2)}, tmp_path / "old.safetensors", {"card": '{"x": 1}'})
    card, weights = read_weights(tmp_path / "old.safetensors", "card")
    assert card == {"x": 1}
    assert weights["a"].tolist() == [1, 1]


def test_a_failed_write_keeps_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "w.safetensors"
    write_weights(path, WEIGHTS, "card", {"version": 1})
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(UserError, match=r"no space left in .* while writing w\.safetensors"):
        write_weights(path, WEIGHTS, "card", {"version": 2})
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]
