from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from medssl.errors import UserError
from medssl.heads import MLP
from medssl.heads.file import load_head, save_head


@pytest.mark.parametrize("head", [MLP((8, 6, 4)), MLP((8, 6, 4), norm="none", last_norm=False), nn.Linear(8, 4)])
@pytest.mark.parametrize("normalise", [True, False])
def test_a_projector_comes_back_bit_for_bit_and_in_eval_mode(tmp_path, head, normalise):
    path = tmp_path / "projection.safetensors"
    head.train()(torch.randn(5, 8))
    save_head(head, path, normalise=normalise)
    again = load_head(path)
    x = torch.randn(3, 8)
    expected = head.eval()(x)
    assert not again.training
    assert torch.equal(again(x), nn.functional.normalize(expected, dim=1) if normalise else expected)


def test_a_damaged_projector_is_named(tmp_path):
    path = tmp_path / "projection.safetensors"
    save_head(MLP((8, 4)), path, normalise=True)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match=r"projection\.safetensors"):
        load_head(path)


def test_what_is_no_projector_is_named(tmp_path):
    path = tmp_path / "projection.safetensors"
    with pytest.raises(UserError, match=r"projection\.safetensors: there is no such file"):
        load_head(path)
    save_file({"w": torch.ones(2)}, path)
    with pytest.raises(UserError, match="no medssl_head"):
        load_head(path)
    whole = {"normalise": True, "kind": "mlp", "dims": [4, 2]}
    for spec in (
        {**whole, "dims": [4]},
        {**whole, "kind": "linear", "dims": None},
        {"kind": "mlp", "dims": [4, 2]},
    ):
        save_file({"w": torch.ones(2)}, path, {"medssl_head": json.dumps(spec)})
        with pytest.raises(UserError, match=r"projection\.safetensors: its description"):
            load_head(path)


def test_weights_of_another_projector_are_refused(tmp_path):
    path = tmp_path / "projection.safetensors"
    spec = {**MLP((8, 4)).spec, "kind": "mlp", "normalise": True}
    save_file(MLP((8, 5)).state_dict(), path, {"medssl_head": json.dumps(spec)})
    with pytest.raises(UserError, match="another architecture"):
        load_head(path)


def test_the_same_projector_gives_the_same_bytes(tmp_path):
    head = MLP((8, 6, 4))
    for name in ("a", "b"):
        save_head(head, tmp_path / name, normalise=True)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    with pytest.raises(TypeError, match="Conv3d cannot be kept"):
        save_head(nn.Conv3d(1, 1, 1), tmp_path / "c", normalise=True)
    assert not (tmp_path / "c").exists()
