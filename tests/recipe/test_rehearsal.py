"""What is built without memory says what cannot be built with it, and leaves no trace."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import pytest
import torch

from medssl.encoders import build_encoder
from medssl.errors import RecipeError
from medssl.methods.base import Method
from medssl.recipe import rehearsal
from medssl.recipe.catalog import CATALOG, build_method
from medssl.recipe.model import load_recipe, parse_recipe
from medssl.recipe.rehearsal import memory, rehearse, rehearse_encoder
from medssl.types import Facts

FACTS = Facts(60, np.arange(60), 8, (1, 40, 48, 40), {"age": np.linspace(6, 90, 60)})


def made(name: str) -> Method:
    recipe = load_recipe(name)
    encoder = build_encoder(recipe.encoder.name, in_channels=1, shape=(40, 48, 40), **recipe.encoder.arguments)
    return build_method(name, encoder, FACTS, recipe.method.arguments)


@pytest.mark.parametrize("name", list(CATALOG))
def test_every_method_can_be_rehearsed_and_has_the_numbers_that_it_will_have(name: str) -> None:
    before = torch.get_rng_state()
    ghost = rehearse(partial(made, name))
    assert torch.equal(torch.get_rng_state(), before), "a rehearsal drew numbers"
    assert all(p.is_meta for p in ghost.parameters())
    real = made(name)
    assert {k: v.shape for k, v in ghost.state_dict().items()} == {k: v.shape for k, v in real.state_dict().items()}
    assert not any(p.is_meta for p in real.parameters())


def test_what_no_memory_holds_is_said_with_its_numbers_unless_it_is_sharded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert memory() > 1e8
    monkeypatch.setattr(rehearsal, "memory", lambda: 1e5)
    with pytest.raises(RecipeError, match=r"^this training has [\d,]+ numbers to learn, which take at least 0\.\d GB"):
        rehearse(partial(made, "l1_age"))
    rehearse(partial(made, "l1_age"), shards=True)


def test_a_machine_that_does_not_say_its_memory_refuses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(_: str) -> int:
        raise ValueError

    monkeypatch.setattr(rehearsal.os, "sysconf", silent)
    assert memory() == float("inf")


def test_a_recipe_whose_encoder_does_not_fit_its_shape_is_refused_when_it_is_read() -> None:
    shape = {"data": {"preprocessing": {"shape": [40, 40, 40]}}}
    with pytest.raises(RecipeError, match=r"^recipe: encoder\.patch is \(16, 16, 16\).*pad them to \(48, 48, 48\)"):
        parse_recipe({"method": "mae", "encoder": {"name": "vit"}, **shape})
    parse_recipe({"method": "mae", "encoder": {"name": "vit"}})  # the scans say their shape later
    with pytest.raises(RecipeError, match="needs volumes of at least"):
        parse_recipe({"method": "simclr", "encoder": "densenet121", "data": {"preprocessing": {"shape": 8}}})


def test_an_encoder_is_rehearsed_once_per_recipe() -> None:
    arguments = json.dumps({"width": 8})
    rehearse_encoder("resnet18", arguments, 1, (32, 32, 32))
    known = rehearse_encoder.cache_info().hits
    rehearse_encoder("resnet18", arguments, 1, (32, 32, 32))
    assert rehearse_encoder.cache_info().hits == known + 1
