from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from medssl.errors import RecipeError
from medssl.recipe.model import load_recipe, parse_recipe
from medssl.training.optim import build_optimizer, set_rates_, weight_decay_at
from medssl.training.options import Optimisation
from medssl.training.presets import PRESETS

EXACT = {
    "ywa": Optimisation(name="adam", lr=1e-4, weight_decay=5e-5, schedule="constant"),
    "isbi": Optimisation(name="adam", lr=1e-4, weight_decay=5e-5, schedule="step", gamma=0.9, every_epochs=10),
    "vit": Optimisation(
        name="adamw", lr=1e-3, weight_decay=0.04, final_weight_decay=0.4, schedule="cosine", warmup=10.0
    ),
    "lars": Optimisation(name="lars", lr=0.2, weight_decay=1e-6, momentum=0.9, schedule="cosine", warmup=10.0),
}


@pytest.mark.parametrize("preset", EXACT)
def test_a_preset_is_exactly_what_the_study_used_and_stands_in_the_resolved_recipe(preset: str) -> None:
    recipe = parse_recipe({"method": "simclr", "optim": {"preset": preset}})
    assert recipe.optim == EXACT[preset]
    assert "preset" not in recipe.to_yaml()
    assert parse_recipe(recipe.to_dict()) == recipe
    assert set(EXACT) == set(PRESETS)


def test_a_key_beside_a_preset_stands_over_it() -> None:
    recipe = parse_recipe({"method": "simclr", "optim": {"preset": "lars", "lr": 0.8, "name": "lars"}})
    assert recipe.optim.lr == 0.8
    assert recipe.optim.weight_decay == 1e-6
    assert load_recipe("simclr", ["optim={preset: ywa}"]).optim == EXACT["ywa"]


@pytest.mark.parametrize(
    ("optim", "words"),
    [
        ({"preset": "lasr"}, r"recipe: optim\.preset is 'lasr', which is unknown; did you mean 'lars'"),
        ({"preset": 3}, r"optim\.preset is 3, which is unknown"),
        ({"preset": None}, r"optim\.preset is None, which is unknown"),
        ({"preset": ["lars"]}, r"optim\.preset is \['lars'\], which is unknown"),
        ({"preset": "lars", "name": "adamw"}, r"is 'lars', which is lars, but optim\.name is 'adamw'; leave"),
        ({"preset": "vit", "lr": -1}, r"'optim\.lr' is -1"),
        ({"preset": "vit", "final_weight_decay": -1}, r"'optim\.final_weight_decay' is -1"),
    ],
)
def test_what_is_wrong_with_a_preset_is_one_sentence(optim: dict[str, object], words: str) -> None:
    with pytest.raises(RecipeError, match=words) as caught:
        parse_recipe({"method": "simclr", "optim": optim})
    assert "\n" not in str(caught.value)


def test_a_preset_over_a_recipe_with_another_optimiser_says_how_to_take_all_of_it() -> None:
    with pytest.raises(RecipeError, match=r"write optim=\{preset: lars\} to take the whole preset"):
        load_recipe("simclr", ["optim.preset=lars"])


def test_recipes_without_a_final_weight_decay_are_written_as_they_were(tmp_path: Path) -> None:
    assert "final_weight_decay" not in load_recipe("simclr").to_yaml()
    recipe = parse_recipe({"method": "simclr", "optim": {"preset": "vit"}})
    assert recipe.to_dict()["optim"]["final_weight_decay"] == 0.4
    assert recipe.digest != parse_recipe({"method": "simclr", "optim": {"preset": "vit", "weight_decay": 0.05}}).digest


def test_weight_decay_rises_by_a_cosine_on_matrices_alone() -> None:
    options = EXACT["vit"]
    assert [weight_decay_at(options, step, 100) for step in (0, 50, 100)] == pytest.approx([0.04, 0.22, 0.4])
    assert weight_decay_at(options, 25, 100) == pytest.approx(0.4 - 0.36 * (1 + math.cos(math.pi / 4)) / 2)
    assert weight_decay_at(EXACT["ywa"], 50, 100) is None
    optimizer = build_optimizer(options, nn.Linear(2, 3).parameters(), 0.1)
    set_rates_(optimizer, 0.3, 0.22)
    assert [(g["lr"], g["weight_decay"], g["params"][0].ndim) for g in optimizer.param_groups] == [
        (0.3, 0.22, 2),
        (0.3, 0.0, 1),
    ]
    set_rates_(optimizer, 0.2, None)
    assert [g["weight_decay"] for g in optimizer.param_groups] == [0.22, 0.0]
    assert torch.is_tensor(optimizer.param_groups[0]["params"][0])
