"""The common checks over every name and every variant: gradients, memory, what counts, who repels.

An exemption is declared where the variant is (``tests/methods/variants.py``) or by the method (``halts``,
``spares_relatives``); there are no tolerances beyond rounding in float64.
"""

from __future__ import annotations

import copy
import json
import math
import typing
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from medssl.checks import declared
from medssl.methods.base import Method
from medssl.recipe.catalog import CATALOG, REGULARIZERS, entry
from medssl.training.batches import joined
from medssl.types import Batch, Progress, Step
from tests.memory.laws import LAWS, lawful
from tests.methods.bench import BATCH, SCANS, Bench, moved
from tests.methods.halts import Halted
from tests.methods.moves import LOOKS, TOLD
from tests.methods.variants import NOW, VARIANTS, Ready, modules_of, ready

every_variant = pytest.mark.parametrize("key", VARIANTS)
GOLDEN_VARIANTS = Path(__file__).parents[1] / "golden" / "variants.json"
EXACT = 1e-5  # central differences in float64, relative to the sizes that a gradient adds up
WITH_MEMORY = [key for key, variant in VARIANTS.items() if variant.name in TOLD]


@every_variant
def test_losses_of_three_steps_are_the_recorded_ones(key: str) -> None:
    """Regenerate with ``python -m tests.methods.golden`` and list what moved under Numbers in the CHANGELOG."""
    for got, recorded in zip(three_steps(key), json.loads(GOLDEN_VARIANTS.read_text())[key], strict=True):
        assert got == pytest.approx(recorded, rel=2e-5)


def three_steps(key: str) -> list[dict[str, float]]:
    """The losses of three steps of a variant, in single precision."""
    bench = VARIANTS[key].bench()
    bench.start()
    return bench.train(3)


@every_variant
def test_the_gradient_is_the_slope_of_the_loss_but_for_what_is_halted(key: str) -> None:
    """Along random directions of all parameters of a player, what is halted being held fixed."""
    case = ready(key)
    gap = slope_gaps(case.method, case.batch(), NOW)
    assert set(gap) == set(case.method.players())
    assert max(gap.values()) < EXACT, gap


def slope_gaps(method: Method, batch: Batch, at: Progress, directions: int = 2) -> dict[str, float]:
    """Per player, the relative gap between gradient and central difference, the largest over some directions.

    A step that crosses a kink (a ReLU over a constant background) is taken again, smaller: where the gradient is
    wrong no size of step helps.
    """
    halted = Halted(method)
    losses = halted.record(lambda: method.step(batch, at)).losses
    gaps = {}
    for player, parameters in method.players().items():
        owned = list(parameters)
        gradient = torch.autograd.grad(losses[player], owned, retain_graph=True, allow_unused=True)

        def loss_at(
            towards: list[Tensor], size: float, owned: list[torch.nn.Parameter] = owned, player: str = player
        ) -> Tensor:
            _shift(owned, towards, size)
            with torch.no_grad():
                value = halted.replay(lambda: method.step(batch, at)).losses[player]
            _shift(owned, towards, -size)
            return value

        gaps[player] = 0.0
        for number in range(directions):
            generator = torch.Generator().manual_seed(number)
            towards = [_direction(p, generator) for p in owned]
            parts = torch.stack([(g * v).sum() for g, v in zip(gradient, towards, strict=True) if g is not None])
            gap = math.inf
            for size in (1e-6, 1e-7, 3e-8):
                slope = (loss_at(towards, size) - loss_at(towards, -size)) / (2 * size)
                gap = min(gap, float((slope - parts.sum()).abs() / parts.abs().sum()))
                if gap < EXACT:
                    break
            gaps[player] = max(gaps[player], gap)
    return gaps


def _direction(p: Tensor, generator: torch.Generator) -> Tensor:
    size = p.detach().square().mean().sqrt() + 0.01
    return size * torch.randn(p.shape, generator=generator, dtype=p.dtype)


@torch.no_grad()
def _shift(parameters: list[torch.nn.Parameter], towards: list[Tensor], size: float) -> None:
    for p, v in zip(parameters, towards, strict=True):
        p += size * v


@every_variant
def test_a_step_moves_only_the_statistics_that_are_declared(key: str) -> None:
    case = ready(key)
    before = case.state()
    case.method.step(case.batch(), NOW)
    assert set(moved(before, case.state())) == case.counted()
    assert bool(case.variant.statistics) == bool(case.counted())


@every_variant
def test_memory_moves_after_a_step_by_its_law_and_nothing_else_does(key: str) -> None:
    case = ready(key)
    method, batch = case.method, case.batch((17, 16, 23, 19, 20, 18, 22, 21))
    memories = modules_of(method, tuple(LAWS))
    before, out = copy.deepcopy(method), method.step(batch, NOW)
    case.descend(out.losses)
    stepped = case.state()
    told = TOLD[case.variant.name](case.variant, before, method, batch, NOW) if memories else {}
    assert set(told) == set(memories), "a memory whose law nobody states"
    method.after_step(out, batch, NOW)
    after = case.state()
    expected = dict(stepped)
    for name, arguments in told.items():
        if arguments is not None:
            expected |= {f"{name}.{k}": v for k, v in lawful(memories[name], _of(name, stepped), arguments).items()}
    assert expected.keys() == after.keys()
    for name in moved(stepped, after):
        assert any(name.startswith(f"{memory}.") for memory in told), f"{name} moves, and is no memory"
    for name, value in after.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-9, atol=1e-12, equal_nan=True, msg=name)
    assert all(not p.requires_grad for memory in memories.values() for p in memory.parameters())


def _of(name: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(f"{name}."): v for k, v in state.items() if k.startswith(f"{name}.")}


@pytest.mark.parametrize("key", WITH_MEMORY)
def test_two_halves_of_a_batch_move_memory_as_the_whole_does(key: str) -> None:
    whole, halves = ready(key), ready(key)
    batch = whole.batch()
    whole.method.after_step(_held(whole, batch), batch, NOW)
    rows = tuple(int(row) for row in batch.index)
    parts = [halves.batch(rows[start::2]) for start in (1, 0)]
    halves.method.after_step(*joined([(_held(halves, part), part) for part in parts]), NOW)
    exempt = whole.counted()  # statistics of the rows that a batch norm saw at once
    for name, value in whole.state().items():
        if name not in exempt:
            torch.testing.assert_close(halves.state()[name], value, rtol=1e-9, atol=1e-12, msg=name)


def _held(case: Ready, batch: Batch) -> Step:
    """A step as gradient accumulation keeps it; running statistics are put back, and keys not mixed by them."""
    before = case.state()
    for module in case.method.modules():
        if case.variant.statistics and isinstance(module, torch.nn.BatchNorm1d):
            module.eval()
    out = case.method.step(batch, NOW)
    assert moved(before, case.state()) == []
    return Step({}, out.log, out.carry)


@every_variant
def test_the_cohort_is_looked_at_before_an_epoch_and_moves_only_what_is_declared(key: str) -> None:
    case = ready(key)
    before = case.state()
    bench = Bench(case.variant.name)
    case.method.before_epoch(lambda f: _embedded(f, bench.x.double()), Progress(15, 27, 5, 9))
    changed = {name.partition(".")[0] for name in moved(before, case.state())}
    assert changed == set(LOOKS.get(case.variant.name, ()))


@torch.no_grad()
def _embedded(f: typing.Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    return torch.arange(len(x)), f(x)


@pytest.mark.parametrize("key", WITH_MEMORY)
def test_a_teacher_starts_as_its_source_and_a_queue_without_a_key(key: str) -> None:
    bench = VARIANTS[key].bench()
    method = bench.start()
    batch = bench.batch(list(range(BATCH)))
    told = TOLD[bench.name](VARIANTS[key], copy.deepcopy(method), method, batch, NOW)
    for name, memory in modules_of(method, tuple(LAWS)).items():
        if arguments := told[name]:
            online = arguments.get("online")
            for part, value in online.state_dict().items() if online else ():
                assert torch.equal(memory.module.state_dict()[part], value), f"{name}: {part}"
            if not online:
                assert int(memory.count) == 0


@every_variant
def test_every_view_answer_and_label_counts(key: str) -> None:
    """Another scan's view, answer or label in its place changes the loss, whichever scan of the batch it is of."""
    case = ready(key)
    batch = case.batch()
    whole = _losses(case, batch)
    for row, other in ((0, 3), (BATCH - 1, 2)):
        for v, view in enumerate(batch.views):
            views = (*batch.views[:v], _swapped(view, row, other), *batch.views[v + 1 :])
            assert _losses(case, replace(batch, views=views)) != whole, f"view {v} of scan {row} has no effect"
        for name, values in batch.target.items():
            target = {**batch.target, name: _swapped(values, row, other)}
            assert _losses(case, replace(batch, target=target)) != whole, f"{name} of scan {row} has no effect"
        for name in case.method.reads:
            values = batch.meta[name]
            donors = [n for n in range(BATCH) if n != row and float(values[n]) != float(values[row])]
            donors = [n for n in donors if not bool(values[n].isnan())] if values.is_floating_point() else donors
            meta = {**batch.meta, name: _swapped(values, row, donors[0])}
            assert _losses(case, replace(batch, meta=meta)) != whole, f"{name} of scan {row} has no effect"


@every_variant
def test_columns_that_are_not_declared_have_no_effect(key: str) -> None:
    case = ready(key)
    batch = case.batch()
    rest = {k: v.flip(0) for k, v in batch.meta.items() if k not in (*case.method.reads, "subject")}
    assert _losses(case, replace(batch, meta={**batch.meta, **rest})) == _losses(case, batch)


def _swapped(values: Tensor, row: int, other: int) -> Tensor:
    changed = values.clone()
    changed[row] = values[other]
    return changed


def _losses(case: Ready, batch: Batch) -> dict[str, float]:
    with torch.no_grad():
        return {k: float(v) for k, v in case.method.step(batch, NOW).losses.items()}


@every_variant
def test_the_order_of_the_scans_has_no_effect(key: str) -> None:
    case = ready(key)
    straight = _losses(case, case.batch())
    mixed = _losses(case, case.batch((21, 18, 23, 16, 17, 22, 19, 20)))
    assert mixed == pytest.approx(straight, rel=1e-9)


@every_variant
def test_weights_that_know_nothing_cost_the_chance_level(key: str) -> None:
    """All weights outside the encoder at zero, over the whole cohort."""
    case = ready(key)
    if case.method.chance is None or case.variant.terms or case.variant.lacks:
        pytest.skip("no chance level is stated, or it is that of the loss without terms and of complete labels")
    with torch.no_grad():
        for name, p in case.method.named_parameters():
            if not name.startswith(("encoder.", "teacher.")):
                p.zero_()
    parts = [tuple(range(start, start + BATCH)) for start in range(0, SCANS, BATCH)]
    if case.variant.name in ("simclr", "moco"):  # relatives, which are ignored, are no candidates
        case.method.queue.ids.fill_(-1) if hasattr(case.method, "queue") else None
    losses = [_losses(case, _strangers(case.batch(rows)))["loss"] for rows in parts]
    assert sum(losses) / len(losses) == pytest.approx(case.method.chance, rel=1e-9)


def _strangers(batch: Batch) -> Batch:
    return replace(batch, meta={**batch.meta, "subject": batch.index})


@pytest.mark.parametrize("key", [key for key in VARIANTS if entry(VARIANTS[key].name).load().joint])
def test_scans_of_one_person_never_repel_where_the_method_says_so(key: str) -> None:
    """The loss does not rise as one scan's rows move towards those of the other; a stranger's rows it does repel."""
    variant = VARIANTS[key]
    if variant.terms or "batch" in variant.label:
        pytest.skip("terms and batch norm act on scans of one person by their own rules")
    if not variant.bench().method.spares_relatives:
        assert variant.name not in ("simclr", "moco") or variant.arguments.get("relatives") == "negative"
        return
    assert push_apart(key, (0, 0)) <= 1e-9
    assert push_apart(key, (0, 1)) > 1e-3


def push_apart(key: str, subjects: tuple[int, int]) -> float:
    """How fast the loss of two scans rises as the rows of the first move towards those of the second.

    Both views of a scan are the same, so that the attraction of its own views has no slope.
    """
    variant = VARIANTS[key]
    pair = replace(variant, arguments={**variant.arguments, **({"queue": 2} if variant.name == "moco" else {})})
    bench = pair.bench()
    bench.method.double()
    bench.x = bench.x.double()
    case = Ready(pair, bench.start())
    method, batch = case.method, case.batch((0, 1))
    batch = replace(batch, views=(batch.views[0],) * 2, meta={**batch.meta, "subject": torch.tensor(subjects)})
    method.after_step(method.step(batch, NOW), batch, NOW)
    along = torch.zeros((), dtype=torch.float64, requires_grad=True)
    plain = method.project

    def project(features: typing.Any) -> Tensor:
        z_ND = plain(features).detach()
        first = (torch.arange(len(z_ND)) % 2 == 0)[:, None]
        return torch.nn.functional.normalize(z_ND + along * first * (z_ND.roll(-1, 0) - z_ND), dim=1)

    method.project = project  # type: ignore[method-assign]
    (slope,) = torch.autograd.grad(method.step(batch, NOW).losses["loss"], along)
    return float(slope)


def test_every_setting_that_switches_a_code_path_is_in_a_variant() -> None:
    """Every word that an argument of a method, or of a term, allows, and both values of a flag."""
    for name in CATALOG:
        used: dict[str, set[object]] = {k: {p.default} for k, p in entry(name).arguments().items()}
        for variant in (v for v in VARIANTS.values() if v.name == name):
            for argument, value in variant.arguments.items():
                if isinstance(value, (str, bool)):
                    used[argument].add(value)
        for argument, kind in declared(entry(name).load()).items():
            if argument in used:
                missing = _choices(kind) - used[argument]
                allowed = UNREACHED.get((name, argument), set())
                assert missing == allowed, f"{name}.{argument}: no variant for {missing - allowed}"
    assert {term for v in VARIANTS.values() for term, _ in v.terms} == set(REGULARIZERS)


LAYERS: set[object] = {"layer", "group"}  # norms of one row, which no loss knows of
OTHER_NORMS: set[object] = {"batch", *LAYERS}  # the projector is that of y_aware
UNREACHED: Mapping[tuple[str, str], set[object]] = {
    ("simclr", "norm"): LAYERS,
    ("moco", "norm"): LAYERS,
    ("y_aware", "projector_norm"): LAYERS,
    ("threshold", "projector_norm"): OTHER_NORMS,
    ("exponential", "projector_norm"): OTHER_NORMS,
    ("y_aware", "variant"): {"isbi_code", "include_k"},
    ("y_aware", "norm"): {"slide"},
    ("threshold", "variant"): {"include_k"},
    ("exponential", "norm"): {"slide"},
}
"""Settings without a variant: refused for this name, without effect, or those of another name."""


def _choices(kind: object) -> set[object]:
    if typing.get_origin(kind) is typing.Literal:
        return set(typing.get_args(kind))
    if typing.get_origin(kind) is typing.Annotated:
        return _choices(typing.get_args(kind)[0])
    return {True, False} if kind is bool else set()


def test_the_chance_level_of_a_loss_is_a_number() -> None:
    assert all(math.isfinite(chance) for key in VARIANTS if (chance := ready(key).method.chance) is not None)
