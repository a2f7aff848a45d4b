from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from medssl.checks import nearest
from medssl.encoders import build_encoder
from medssl.errors import RecipeError
from medssl.methods.base import Method
from medssl.recipe.catalog import CATALOG, build_method, check_arguments, entry
from medssl.recipe.model import load_recipe
from medssl.types import Facts

ROOT = Path(__file__).resolve().parents[2]
every_name = pytest.mark.parametrize("name", list(CATALOG))


@every_name
def test_every_entry_is_a_method_whose_arguments_all_have_defaults_or_are_fixed(name: str):
    found = CATALOG[name]
    cls = found.load()
    assert issubclass(cls, Method)
    assert found.name == name
    assert set(found.fixed) <= set(inspect.signature(cls.__init__).parameters)
    assert all(p.default is not p.empty for p in found.arguments().values())
    assert not set(found.fixed) & set(found.arguments())
    assert found.family == cls.__module__.split(".")[2]


@every_name
def test_every_name_has_a_recipe_that_trains_it(name: str):
    text = (ROOT / "configs" / "pretrain" / f"{name}.yaml").read_text()
    assert f"name: {name}" in text
    assert f"medssl pretrain {name} " in text


def test_reading_the_table_imports_no_method_and_no_torch():
    code = "import medssl.recipe.catalog, sys; print([m for m in sys.modules if m in ('torch', 'monai', 'pydantic')])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_unknown_name_is_answered_with_the_nearest_or_with_all():
    with pytest.raises(RecipeError, match="did you mean 'moco'"):
        entry("mocco")
    assert nearest("zzzz", ["b", "a"]) == "known: a, b"


def test_arguments_come_back_in_their_declared_types():
    assert check_arguments("moco", {"queue": 64, "temperature": 1, "projector": [16, 8]}) == {
        "queue": 64,
        "temperature": 1.0,
        "projector": [16, 8],
    }
    assert check_arguments("moco", {"queue": None}) == {"queue": None}


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("simclr", {"temperatur": 0.1}, "did you mean 'method.temperature'"),
        ("simclr", {"temperature": "warm"}, "method.temperature is 'warm'"),
        ("simclr", {"relatives": "friends"}, "'positive', 'ignore' or 'negative'"),
        ("simclr", {"projector": "big"}, "method.projector is 'big'"),
        ("mae", {"decoder_depth": 1.5}, "method.decoder_depth is 1.5"),
        ("threshold", {"loss": "y_aware"}, "fixed by the name 'threshold'"),
        ("y_aware", {"kernels": ["age"]}, "method.kernels"),
        ("moco", {"encoder": None}, "no argument of 'moco'"),
        ("threshold", {"norm": "slide"}, "set method.ratio_max"),
        ("threshold", {"variant": "isbi_code", "block": 4}, "remove block"),
        ("y_aware", {"kernels": {"age": {"kernel": "rbf"}}}, "needs sigma"),
        ("mae", {"decoder_heads": 5}, "use a multiple of 30"),
    ],
)
def test_a_wrong_argument_is_named_with_its_rule(name: str, arguments: dict[str, object], words: str):
    with pytest.raises(RecipeError, match=words):
        check_arguments(name, arguments)


def test_a_method_that_needs_tokens_refuses_a_convolutional_encoder():
    encoder = build_encoder("resnet18", width=4, depth=[1, 1], norm="group", shape=(16, 16, 16))
    facts = Facts(8, np.arange(8), 4, (1, 16, 16, 16))
    with pytest.raises(RecipeError, match=r"mae needs an encoder that returns tokens.*encoder\.name=vit"):
        build_method("mae", encoder, facts, {})


@pytest.mark.parametrize("name", ["simclr", "moco", "y_aware", "threshold", "exponential"])
def test_a_projector_is_as_wide_as_the_encoder_where_nothing_else_is_said(name: str) -> None:
    arguments = {k: v for k, v in load_recipe(name).method.arguments.items() if k != "projector"}
    encoder = build_encoder("resnet18", in_channels=1, shape=(16, 16, 16), width=4, depth=[1, 1])
    facts = Facts(8, np.arange(8), 4, (1, 16, 16, 16), {"age": np.arange(8.0)})
    assert build_method(name, encoder, facts, arguments).projector.dims == (8, 8, 128)
    named = build_method(name, encoder, facts, arguments | {"projector": [32, "width", 5]})
    assert named.projector.dims == (8, 32, 8, 5)
    with pytest.raises(RecipeError, match=r"method\.projector.* 'wide'.*'width'"):
        build_method(name, encoder, facts, arguments | {"projector": ["wide", 128]})


@pytest.mark.parametrize("name", [*CATALOG, "demo", "exponential_roi"])
def test_shipped_recipes_name_their_heads(name: str) -> None:
    """So that a default of an argument can follow the papers without moving a number of theirs."""
    recipe = load_recipe(name)
    arguments = entry(recipe.method.name).arguments()
    for key in ("projector", "decoder_width", "decoder_depth", "decoder_heads"):
        assert key not in arguments or key in recipe.method.arguments


def test_the_decoder_of_mae_is_that_of_its_card() -> None:
    arguments = entry("mae").arguments()
    assert [arguments[f"decoder_{k}"].default for k in ("width", "depth", "heads")] == [384, 4, 6]
    assert "decoder of 4 blocks of width 384" in (entry("mae").load().__doc__ or "")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("L_exp", "exponential"),
        ("lexp", "exponential"),
        ("L_thr", "threshold"),
        ("y-aware", "y_aware"),
        ("L1", "l1_age"),
    ],
)
def test_the_name_of_a_paper_leads_to_the_name_here(name: str, meant: str):
    with pytest.raises(RecipeError, match=f"unknown method '{name}'; its name here is '{meant}'"):
        entry(name)
    with pytest.raises(RecipeError, match=f"unknown method '{name}'; its name here is '{meant}'"):
        load_recipe(name)
    assert meant in CATALOG
