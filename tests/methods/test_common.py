"""The common checks: every name of the catalogue passes all of them (design, section 6)."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from medssl.encoders.file import load_encoder, save_encoder
from medssl.memory.ema import EMA
from medssl.recipe.catalog import CATALOG, entry
from medssl.types import Batch
from tests.methods.bench import BATCH, SCANS, SHAPE, START, Bench, moved

NAMES = list(CATALOG)
GOLDEN = Path(__file__).parents[1] / "golden" / "losses.json"
every_name = pytest.mark.parametrize("name", NAMES)


@every_name
def test_it_builds_from_its_recipe_and_declares_what_it_reads(name: str) -> None:
    bench = Bench(name)
    batch = bench.batch(list(range(BATCH)))
    assert len(batch.views) == bench.method.views
    assert set(bench.method.reads) <= set(batch.meta)
    assert {k: (BATCH, *shape) for k, shape in bench.method.wants.items()} == {
        k: tuple(v.shape) for k, v in batch.target.items()
    }
    assert bench.method.encoder is bench.encoder
    assert entry(name).line
    assert entry(name).paper
    doc = type(bench.method).__doc__ or ""
    assert all(word in doc for word in ("Views:", "Labels:", "State:", "Collapse:", "3D:")), "the card is incomplete"


@every_name
def test_losses_are_finite_scalars_and_equal_the_players(name: str) -> None:
    bench = Bench(name)
    out = bench.start().step(bench.batch(list(range(BATCH))), START)
    assert set(out.losses) == set(bench.method.players())
    for loss in out.losses.values():
        assert loss.ndim == 0
        assert torch.isfinite(loss)
    for value in (*out.log.values(), *out.carry.values()):
        assert not value.requires_grad
        assert torch.isfinite(value).all()


@every_name
def test_every_player_gets_its_own_gradient_and_memory_gets_none(name: str) -> None:
    bench = Bench(name)
    method = bench.start()
    players = {k: list(p) for k, p in method.players().items()}
    owned = [id(p) for ps in players.values() for p in ps]
    assert len(owned) == len(set(owned)), "two players own the same parameter"
    assert {id(p) for p in method.parameters() if p.requires_grad} == set(owned)
    for player in players:
        method.zero_grad(set_to_none=True)
        method.step(bench.batch(list(range(BATCH))), START).losses[player].backward()
        for owner, parameters in players.items():
            got = [p.grad is not None and bool(p.grad.abs().sum() > 0) for p in parameters]
            if owner == player:
                assert all(got), f"{sum(not g for g in got)} of {len(got)} parameters of {owner} get no gradient"
            else:
                assert not any(got), f"the loss of {player} moves parameters of {owner}"
        for parameter in method.parameters():
            assert id(parameter) in owned or parameter.grad is None


@every_name
def test_a_step_leaves_every_buffer_and_parameter_as_it_was(name: str) -> None:
    bench = Bench(name)
    method = bench.start()
    before = {k: v.clone() for k, v in method.state_dict().items()}
    method.step(bench.batch(list(range(BATCH))), START)
    assert moved(before, method.state_dict()) == []


def test_a_number_that_moves_beside_one_that_is_none_has_moved() -> None:
    before = {"bank": torch.tensor([math.nan, 1.0, 2.0]), "count": torch.tensor(3)}
    assert moved(before, {k: v.clone() for k, v in before.items()}) == []
    assert moved(before, before | {"bank": torch.tensor([math.nan, 1.0, 2.5])}) == ["bank"]
    assert moved(before, before | {"bank": torch.tensor([0.0, 1.0, 2.0]), "count": torch.tensor(4)}) == [
        "bank",
        "count",
    ]


@every_name
def test_the_same_seed_gives_the_same_losses(name: str) -> None:
    first, second = Bench(name, seed=3), Bench(name, seed=3)
    first.start(), second.start()
    assert first.train(2) == second.train(2)
    other = Bench(name, seed=4)
    other.start()
    assert other.train(2) != first.train(2)


@every_name
def test_saving_in_the_middle_continues_bit_for_bit(name: str, tmp_path: Path) -> None:
    bench = Bench(name)
    bench.start()
    bench.train(3)
    torch.save(bench.method.state_dict(), tmp_path / "state.ckpt")
    again = Bench(name, seed=99)
    again.maker = bench.maker
    again.method.load_state_dict(torch.load(tmp_path / "state.ckpt", weights_only=True))
    assert again.train(2, begin=3) == bench.train(2, begin=3)
    assert moved(bench.method.state_dict(), again.method.state_dict()) == []


@every_name
def test_bfloat16_is_finite_and_close(name: str) -> None:
    bench = Bench(name)
    batch = bench.batch(list(range(BATCH)))
    full = bench.start().step(batch, START).losses
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = bench.method.step(batch, START).losses
    for player, loss in half.items():
        assert loss.dtype == torch.float32
        assert float(loss) == pytest.approx(float(full[player]), rel=0.1, abs=0.1)


@every_name
def test_permuting_scans_does_not_change_the_loss(name: str) -> None:
    bench = Bench(name)
    bench.start()
    rows = list(range(BATCH))
    straight = bench.method.step(bench.batch(rows), START).losses
    mixed = bench.method.step(bench.batch([5, 2, 7, 0, 1, 6, 3, 4]), START).losses
    for player, loss in straight.items():
        assert float(loss) == pytest.approx(float(mixed[player]), rel=1e-4, abs=1e-5)


@every_name
def test_missing_labels_leave_the_loss_finite(name: str) -> None:
    bench = Bench(name)
    bench.start()
    batch = bench.batch(list(range(BATCH)))
    for age in (
        torch.full((BATCH,), float("nan")),
        torch.where(torch.arange(BATCH) % 2 == 0, batch.meta["age"], float("nan")),
        torch.full((BATCH,), 30.0),
    ):
        meta = dict(batch.meta) | {"age": age}
        out = bench.method.step(Batch(batch.views, batch.index, meta, batch.target), START)
        bench.method.zero_grad(set_to_none=True)
        torch.stack(list(out.losses.values())).sum().backward()
        for parameter in bench.method.parameters():
            assert parameter.grad is None or torch.isfinite(parameter.grad).all()


@every_name
def test_the_encoder_alone_reloads_and_embeds(name: str, tmp_path: Path) -> None:
    bench = Bench(name)
    bench.start()
    bench.train(2)
    save_encoder(bench.encoder, tmp_path / "encoder.safetensors", {"method": name})
    alone = load_encoder(tmp_path / "encoder.safetensors")
    x = torch.randn(2, *SHAPE)
    expected = bench.encoder.eval()(x).pooled
    assert torch.equal(alone(x).pooled, expected)
    assert expected.shape == (2, bench.encoder.dim)


@every_name
def test_the_projection_matches_what_the_recipe_says(name: str) -> None:
    bench = Bench(name)
    z_ND = bench.method.project(bench.encoder(torch.randn(3, *SHAPE)))
    assert z_ND.shape[0] == 3
    if bench.method.normalised and hasattr(bench.method, "projector"):
        assert torch.allclose(z_ND.norm(dim=1), torch.ones(3), atol=1e-5)


@every_name
def test_losses_of_three_steps_are_the_recorded_ones(name: str) -> None:
    """Regenerate with ``python -m tests.methods.golden`` and list what moved under Numbers in the CHANGELOG."""
    assert drift(name) < EXACT


EXACT = 2e-5  # machines, and numbers of threads, differ by about 5e-7


def drift(name: str) -> float:
    """The largest relative difference between three steps and their record."""
    recorded = json.loads(GOLDEN.read_text())[name]
    bench = Bench(name)
    bench.start()
    steps = list(zip(bench.train(3), recorded, strict=True))
    assert all(got.keys() == expected.keys() for got, expected in steps)
    return max(abs(got[k] / expected[k] - 1) for got, expected in steps for k in expected)


def _still(self: EMA, online: nn.Module, fraction: float = 0.0) -> None:
    self.updates += 1


def _only(part: int) -> Callable[..., None]:
    """An update that forgets all but one part of the module."""

    def update(self: EMA, online: nn.Module, fraction: float = 0.0) -> None:
        for name, slow in self.module[part].named_parameters():  # type: ignore[index]
            slow.data.lerp_(online[part].get_parameter(name).detach(), 1 - self.start)  # type: ignore[index]

    return update


@pytest.mark.parametrize(
    "update", [_still, _only(0), _only(1)], ids=["it never moves", "only its encoder", "only its projector"]
)
def test_the_record_sees_a_teacher_that_does_not_follow(
    update: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EMA, "update", update)
    assert drift("moco") > 5 * EXACT


def test_the_record_sees_a_teacher_that_follows_at_another_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EMA, "momentum_at", lambda self, fraction: 0.991)
    assert drift("moco") > 5 * EXACT


@every_name
def test_numbers_stay_in_double_precision(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is cast to single precision on the way, nor made in the default one."""
    losses = []
    for default in (torch.float32, torch.float64):
        bench = Bench(name)
        bench.start().double()
        batch = bench.batch(list(range(BATCH)))
        double = [
            {k: v.double() if v.is_floating_point() else v for k, v in d.items()} for d in (batch.meta, batch.target)
        ]
        batch = Batch(tuple(v.double() for v in batch.views), batch.index, *double)
        torch.set_default_dtype(default)
        try:
            losses.append(bench.method.step(batch, START).losses)
        finally:
            torch.set_default_dtype(torch.float32)
    for player, loss in losses[0].items():
        assert loss.dtype == losses[1][player].dtype == torch.float64
        assert float(loss) == pytest.approx(float(losses[1][player]), rel=1e-12)


def test_the_record_covers_the_catalogue_and_nothing_else() -> None:
    assert set(json.loads(GOLDEN.read_text())) == set(NAMES)
    assert SCANS % BATCH == 0
