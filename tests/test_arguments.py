"""Every argument of every name declares its range, and keeps to it: the common check of what a recipe may say.

A new method, regulariser, encoder, transform or kernel is attacked here by being in its table.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import typing
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import BaseModel

from medssl import stages
from medssl.challenge.openbhb import score_openbhb
from medssl.checks import Interval, Listed, Pair, declared, describe, is_ranged
from medssl.data.loading.cache import VolumeCache
from medssl.encoders import ENCODERS, _maker, build_encoder
from medssl.errors import RecipeError, UserError
from medssl.experiments.benchmark.preset import Synthetic
from medssl.experiments.study.plan import Range, Search, Validation
from medssl.kernels import KERNELS, Bandwidth
from medssl.recipe import rehearsal
from medssl.recipe.catalog import CATALOG, REGULARIZERS, _regularizer
from medssl.recipe.model import Recipe, parse_recipe
from medssl.transforms import TRANSFORMS
from tests.conftest import tiny_recipe
from tests.methods.bench import BATCH, START, Bench

NESTED: Any = 1
for _ in range(60):
    NESTED = [NESTED]
ODD: tuple[Any, ...] = (
    0, -1, 0.5, 1e-300, 1e12, 10**400, 10**5000, math.nan, math.inf, -math.inf, True, False, "", "1", "yes",
    "x" * 10**6, "two\nlines", None, [], [0], [-1], [1e9, "a"], ["x"], [None], [[]],
    {}, {"a": 1}, {"a": {"b": []}}, {1: 2}, NESTED, b"bytes", 1 + 2j, object(), {"kernel": []},
)  # fmt: skip
TINY = {"name": "resnet18", "width": 4, "depth": [1], "norm": "group", "stem": "small"}
FREE = {"manifest", "path", "cache", "output", "policy", "manifests", "players", "preprocessing", "method", "encoder"}
"""Keys of a recipe that hold paths, or parts that are checked by themselves."""


@dataclasses.dataclass(frozen=True)
class Argument:
    """One argument: its place in a recipe, its declared type, and a recipe that it is written into."""

    key: str
    kind: Any
    recipe: Mapping[str, Any]

    def written(self, value: Any) -> dict[str, Any]:
        content = copy.deepcopy(dict(self.recipe))
        node: Any = content
        *parents, last = self.key.split(".")
        for part in parents:
            node = node[int(part)] if isinstance(node, list) else node.setdefault(part, {})
        node[last] = value
        return content


def recipe(**parts: Any) -> dict[str, Any]:
    return {"method": {"name": "simclr"}, "encoder": dict(TINY), **parts}


def fields_of(node: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and declared types of a model and of the records inside it."""
    for name, kind in typing.get_type_hints(node, include_extras=True).items():
        if isinstance(kind, type) and (issubclass(kind, BaseModel) or dataclasses.is_dataclass(kind)):
            if name not in ("method", "encoder"):
                yield from fields_of(kind, f"{at}{name}.")
        elif not name.startswith("_") and name not in ("model_config", "regularizers") and name not in FREE:
            yield f"{at}{name}", kind


def arguments() -> Iterator[Argument]:
    for name, entry in CATALOG.items():
        kinds = declared(entry.load())
        for key in entry.arguments():
            yield Argument(f"method.{key}", kinds[key], recipe(method={"name": name}))
    for name in REGULARIZERS:
        for key, kind in declared(_regularizer(name)).items():
            yield Argument(f"regularizers.0.{key}", kind, recipe(regularizers=[{"name": name}]))
    for name in ENCODERS:
        size = {"data": {"preprocessing": {"shape": [48, 48, 48]}}}
        for key, kind in declared(_maker(name)).items():
            yield Argument(f"encoder.{key}", kind, recipe(encoder={"name": name}, **size))
    for name, transform in TRANSFORMS.items():
        for key, kind in declared(transform).items():
            yield Argument(f"views.policy.0.{name}.{key}", kind, recipe(views={"policy": [{name: {}}]}))
    for name in sorted(set(KERNELS) - {"product"}):
        scale = {} if KERNELS[name].sharp else {"bandwidth": 5}
        method = {"name": "exponential", "kernels": {"age": {"kernel": name, **scale}}}
        for key, kind in {**declared(KERNELS[name]), "bandwidth": Bandwidth}.items():
            yield Argument(f"method.kernels.age.{key}", kind, recipe(method=method))
    for key, kind in fields_of(Recipe):
        yield Argument(key, kind, recipe())


ARGUMENTS = list(arguments())
every_argument = pytest.mark.parametrize(
    "argument", ARGUMENTS, ids=lambda a: f"{next(iter(a.recipe['method'].values()))}-{a.key}"
)


def intervals(kind: Any) -> Iterator[tuple[Interval, Any]]:
    """Every interval inside a declared type, with what it is of."""
    inner = typing.get_args(kind)
    for mark in inner[1:] if typing.get_origin(kind) is Annotated else ():
        if isinstance(mark, Interval):
            yield mark, inner[0]
        elif isinstance(mark, Pair):
            yield mark.within, float
    for part in inner:
        yield from intervals(part)


def around(kind: Any) -> Iterator[Any]:
    """Numbers at, just inside and just outside of every bound, alone and in a list."""
    for interval, of in intervals(kind):
        for bound in (interval.low, interval.high):
            if math.isfinite(bound):
                steps = (bound - 1, bound, bound + 1) if of is int else (math.nextafter(bound, -math.inf), bound)
                for number in (*steps, math.nextafter(bound, math.inf)):
                    yield from (number, [number], [number] * 3)


def refused(content: Mapping[str, Any]) -> str | None:
    """The sentence with which a recipe is refused, None where it is accepted."""
    try:
        parse_recipe(content, "my.yaml")
    except RecipeError as problem:
        return str(problem)
    return None


@every_argument
def test_every_argument_declares_its_range(argument: Argument) -> None:
    assert is_ranged(argument.kind), f"{argument.key} is {argument.kind}, which allows anything"
    if argument.key != "method.kernels":
        assert all(math.isfinite(i.low) for i, _ in intervals(argument.kind)), "how small may it be?"
    assert describe(argument.kind)


@every_argument
def test_an_odd_value_is_taken_or_refused_in_one_sentence_that_names_key_and_value(
    argument: Argument, monkeypatch: pytest.MonkeyPatch
) -> None:
    if argument.key == "encoder.depth":  # hundreds of layers are within the range, and take seconds to rehearse
        monkeypatch.setattr(rehearsal, "rehearse_encoder", lambda *_: None)
    for value in (*ODD, *around(argument.kind)):
        text = refused(argument.written(value))
        if text is None:
            continue
        assert text.startswith("my.yaml: "), text
        assert argument.key.partition(".")[0] in text, text
        assert "\n" not in text, text
        assert len(text) < 700, text
        for word in ("Input should", "Value error", "unexpected", "Traceback", "NoneType", "pydantic"):
            assert word not in text, text


PLACES: dict[str, Any] = {
    "a key": lambda word: {word: 1},
    "a method": lambda word: {"method": {"name": word}},
    "an argument of a method": lambda word: {"method": {"name": "simclr", word: 1}},
    "an encoder": lambda word: {"encoder": {"name": word}},
    "an argument of an encoder": lambda word: {"encoder": {**TINY, word: 1}},
    "a regulariser": lambda word: {"regularizers": [{"name": word}]},
    "an argument of a regulariser": lambda word: {"regularizers": [{"name": "variance", word: 1}]},
    "a policy": lambda word: {"views": {"policy": word}},
    "a transform": lambda word: {"views": {"policy": [{word: {}}]}},
    "an argument of a transform": lambda word: {"views": {"policy": [{"noise": {word: 1}}]}},
    "a column": lambda word: {"method": {"name": "y_aware", "kernels": {word: {"kernel": 3}}}},
    "a kernel": lambda word: {"method": {"name": "y_aware", "kernels": {"age": {"kernel": word}}}},
    "an argument of a kernel": lambda word: {
        "method": {"name": "y_aware", "kernels": {"age": {"bandwidth": 1, word: 1}}}
    },
    "an option": lambda word: {"trainer": {word: 1}},
    "an option of a player": lambda word: {"optim": {"players": {"loss": {word: 1}}}},
    "a key of preprocessing": lambda word: {"data": {"preprocessing": {word: 1}}},
}


@pytest.mark.parametrize("place", PLACES)
def test_an_odd_name_or_key_is_refused_in_one_short_sentence(place: str) -> None:
    for word in ("zzz", "x" * 10**6, "a\nb", "", " ", 3, 10**5000, None, True, 0.5, math.nan, ("a", "b")):
        text = refused(recipe() | PLACES[place](word))
        assert text is not None, word
        assert text.startswith("my.yaml: "), text
        assert "\n" not in text, text
        assert len(text) < 900, text
        for bad in ("Input should", "Value error", "unexpected", "Traceback", "pydantic"):
            assert bad not in text, text


@every_argument
def test_outside_of_the_declared_range_nothing_is_taken(argument: Argument) -> None:
    kinds = list(intervals(argument.kind))
    for interval, of in kinds:
        step = 1 if of is int else 1e-9 + 1e-9 * max(abs(interval.low), 1)
        if typing.get_origin(argument.kind) is Annotated and not isinstance(argument.kind.__metadata__[0], Listed):
            text = refused(argument.written(interval.low - step))
            assert text is not None
            assert f"{argument.key}" in text, text
            assert "but it must be" in text, text
        if interval.above and len(kinds) == 1:
            assert refused(argument.written(interval.low)) is not None


@every_argument
def test_numbers_are_never_flags_or_text(argument: Argument) -> None:
    for value in (True, False, "1", "0.5") if any(True for _ in intervals(argument.kind)) else ():
        assert refused(argument.written(value)) is not None, value


@pytest.mark.parametrize("name", list(CATALOG))
def test_methods_take_a_step_at_the_ends_of_their_ranges(name: str) -> None:
    kinds = declared(CATALOG[name].load())
    for key in CATALOG[name].arguments():
        for interval, of in intervals(kinds[key]):
            ends = [interval.low] if of is int else [interval.low, interval.high]
            for end in ends:
                inside = end if end != interval.low or not interval.above else math.nextafter(end, math.inf)
                inside = math.nextafter(inside, -math.inf) if interval.below and inside == interval.high else inside
                listed = key.startswith("projector") and not key.endswith("norm")
                with suppress(UserError):
                    bench = Bench(name, **{key: [inside] if listed else inside})
                    out = bench.start().step(bench.batch(list(range(BATCH))), START)
                    torch.stack(list(out.losses.values())).sum().backward()
                    assert all(math.isfinite(float(loss.detach())) for loss in out.losses.values()), (key, inside)


@pytest.mark.parametrize("name", list(ENCODERS))
def test_encoders_run_at_the_low_ends_of_their_ranges(name: str) -> None:
    small = {
        "vit": {"width": 12, "heads": 2, "depth": 1, "patch": 12},
        "mlp": {},
        "densenet121": {"depth": [1], "growth": 4},
    }
    side = 12 if name == "vit" else 24  # patches of one voxel are within the range
    base = small.get(name, {"width": 4} | ({"depth": [1]} if name.startswith("resnet") else {}))
    for key, kind in declared(_maker(name)).items():
        for interval, _ in intervals(kind):
            low = interval.low if not interval.above else math.nextafter(interval.low, math.inf)
            value = [low] if key in ("depth", "hidden") and name != "vit" else low
            with suppress(RecipeError):
                encoder = build_encoder(name, shape=(side,) * 3, **base | {key: value})
                assert encoder(torch.randn(2, 1, side, side, side)).pooled.isfinite().all(), (key, value)


@pytest.mark.parametrize("name", list(TRANSFORMS))
def test_transforms_work_at_both_ends_of_their_ranges(name: str) -> None:
    x = torch.randn(1, 9, 8, 7, generator=torch.Generator().manual_seed(0))
    for key, kind in declared(TRANSFORMS[name]).items():
        for interval, _ in intervals(kind):
            for end in (interval.low, interval.high):
                value = math.nextafter(end, math.inf) if interval.above and end == interval.low else end
                made = TRANSFORMS[name](**{key: value})
                y = made.apply(x, made.sample(np.random.default_rng(0), x.shape))
                assert y.shape == x.shape
                assert y.isfinite().all(), (key, value)


@pytest.mark.parametrize("name", sorted(set(KERNELS) - {"product"}))
def test_kernels_weigh_pairs_at_both_ends_of_their_ranges(name: str) -> None:
    y = torch.tensor([6.0, 6.0, 7.5, 90.0])
    least = {"rbf": {"sigma": 5}, "gaussian": {"sigma": 5}, "cauchy": {"gamma": 1}, "box": {"theta": 1}}.get(name, {})
    for key, kind in declared(KERNELS[name]).items():
        for interval, _ in intervals(kind):
            for end in (interval.low, interval.high):
                kernel = KERNELS[name](**least | {key: end})
                distance, logw = kernel(y, y)
                assert not logw.isnan().any(), (key, end)
                assert (kernel.unscaled(y, y)[1].diagonal() == 0).all()
                assert distance.isfinite().all()


# --- refused before a scan is read or a folder is made ---


@pytest.mark.parametrize(
    ("method", "changes", "words"),
    [
        ("simclr", ["method.temperature=-1"], "method.temperature is -1, but it must be a number from 0.001 to 100"),
        ("y_aware", ["method.kernels={}"], "method.kernels is {}, but it must be a mapping"),
        ("y_aware", ["method.kernels={site: {kernel: rbf, bandwidth: 1}}"], "kernels.site.kernel=categorical"),
        ("y_aware", ["method.kernels={scanner: {kernel: box, bandwidth: 1}}"], "whose order means nothing"),
        ("y_aware", ["method.kernels={agee: {kernel: rbf, bandwidth: 1}}"], "did you mean 'age'?"),
        ("y_aware", ["method.kernels={age: {kernel: rbf}}"], "kernel rbf needs sigma"),
        ("l1_age", ["method.label=site"], "method.label is 'site', which holds names"),
        ("simclr", ["encoder.width=1000000000"], "encoder.width is 1000000000, but it must be a whole number"),
        ("simclr", ["encoder.width=16384", "encoder.depth=[8]"], "GB of memory; lower encoder.width"),
        ("bigan", ["method.latent=-1"], "method.latent is -1"),
        ("y_aware", ["method.block=-1"], "method.block is -1"),
        ("moco", ["method.momentum=2"], "method.momentum is 2"),
        ("mae", ["method.ratio=1"], "method.ratio is 1"),
        ("mae", ["method.ratio=0.99"], "method.ratio 0.99 hides none or all of 27 patches"),
        ("mae", ["encoder.heads=5"], "encoder.heads is 5"),
        ("mae", ["encoder.patch=5"], "encoder.patch is (5, 5, 5)"),
        ("mae", ["method.decoder_heads=5"], "method.decoder_heads is 5"),
        ("simclr", ["method.projector=[]"], "method.projector is []"),
        ("simclr", ["method.projector=[0]"], "method.projector.0 is 0"),
        ("simclr", ["method.projector=[1e9]"], "method.projector.0 is 1000000000"),
        ("deepcluster", ["method.clusters=5000"], "method.clusters is 5000, but there are"),
        ("threshold", ["method.norm=slide"], "set method.ratio_max"),
        ("threshold", ["method.norm=anchr"], "did you mean 'anchor'?"),
        ("simclr", ["data.batch_size=1000"], "set data.batch_size="),
        ("simclr", ["data.workers=100000"], "data.workers' is 100000"),
        ("simclr", ["data.preprocessing.shape=2000"], "no memory holds"),
        ("simclr", ["views.policy=[{noise: {sd: -1}}]"], "views.policy.0.noise.sd is -1"),
        ("simclr", ["regularizers=[{name: variance, gamma: .nan}]"], "regularizers.0.gamma is nan"),
        ("simclr", ["regularizers=[{name: fair_kl, column: sit}]"], "did you mean 'site'?"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_before_a_scan_is_read_or_a_folder_is_made(
    method: str, changes: list[str], words: str, cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = pd.read_csv(cohort)
    table["image"] = [str(cohort.parent / name) for name in table["image"]]
    table.assign(scanner="Trio").to_csv(tmp_path / "manifest.csv", index=False)
    monkeypatch.setattr(VolumeCache, "prepare", lambda *_, **__: pytest.fail("scans are read"))
    run = tmp_path / "run"
    where = [*tiny_recipe(tmp_path / "manifest.csv", run, method), f"data.cache={tmp_path / 'cache'}"]
    with pytest.raises(UserError) as caught:
        stages.pretrain(method, *where, *changes, progress=False)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not run.exists()
    assert not (tmp_path / "cache").exists()


STAGES = {stages.pretrain: 1, stages.embed: 1, stages.score: 1, stages.demo: 1, score_openbhb: 1}


@pytest.mark.parametrize("stage", STAGES, ids=lambda f: f.__name__)
def test_arguments_of_a_stage_are_checked_before_anything_else(stage: Any, tmp_path: Path) -> None:
    for name, kind in declared(stage).items():
        if not is_ranged(kind):
            assert name in ("resume", "cache", "prefix", "say")
            continue
        for value in (-1, math.nan, "x", [], {}, 10**400, 0.5):
            with pytest.raises(UserError, match=f"^{name} is .*, but it must be "):
                stage(tmp_path / "out", **{name: value})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("model", [Synthetic, Validation, Range, Search], ids=lambda m: m.__name__)
def test_presets_and_studies_declare_ranges_too(model: type[BaseModel]) -> None:
    for name, kind in fields_of(model):
        assert is_ranged(kind) or name in ("space", "seeds"), name
