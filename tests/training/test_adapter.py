from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medssl.data.loading.dataset import EpochBatches, ResumableLoader, ScanDataset
from medssl.data.volumes.preprocess import Preprocessing
from medssl.errors import TrainingStopped, UserError
from medssl.methods.base import Method
from medssl.training.adapter import Hooks, MethodModule, build_trainer, fit
from medssl.training.checkpoints import list_checkpoints
from medssl.training.options import Optimisation, PlayerOptions, TrainerOptions
from medssl.types import Batch, Embed, Facts, Progress, Step

SCANS = 12
SGD = Optimisation(name="sgd", lr=0.1, weight_decay=0.0, momentum=0.0, schedule="constant")


class Shelf:
    """A cache whose volume of a row is filled with the row's number."""

    def load(self, images: tuple[Path, ...], preprocessing: Preprocessing) -> np.ndarray:
        return np.full((1, 2, 2, 2), float(images[0].name) / SCANS, np.float32)


class Mean(nn.Module):
    """The mean of a volume as its only feature."""

    dim = 1

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((1, 2, 3, 4))[:, None]


class Toy(Method):
    """w . mean(x) against 1, with a notebook of everything that the trainer calls."""

    def __init__(self, per_scan: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__(Mean(), Facts(SCANS, np.arange(SCANS), 4, (1, 2, 2, 2)))
        self.w = nn.Parameter(torch.tensor([0.5]))
        self.per_scan = per_scan or (lambda guess: (guess - 1) ** 2)
        self.register_buffer("moves", torch.zeros(()))
        self.notes: dict[str, list[Any]] = {"step": [], "after": [], "epoch": [], "autocast": [], "w": []}

    def step(self, batch: Batch, progress: Progress) -> Step:
        self.notes["step"].append(progress.step)
        self.notes["w"].append(float(self.w.detach()))
        self.notes["autocast"].append(torch.is_autocast_enabled("cpu"))
        guess = self.encoder(batch.views[0])[:, 0] * self.w
        return Step({"loss": self.per_scan(guess).mean()}, {"guess": guess.detach().mean()})

    def after_step(self, step: Step, batch: Batch, progress: Progress) -> None:
        self.notes["after"].append(progress.step)
        self.moves += 1

    def before_epoch(self, embed: Embed, progress: Progress) -> None:
        self.notes["epoch"].append((progress.epoch, progress.step))


class Game(Toy):
    """Two players, each pulling its own number down with gradient 1."""

    def __init__(self) -> None:
        super().__init__()
        self.v = nn.Parameter(torch.tensor([0.5]))

    def players(self) -> Mapping[str, Iterable[nn.Parameter]]:
        return {"first": [self.w], "second": [self.v]}

    def step(self, batch: Batch, progress: Progress) -> Step:
        return Step({"first": self.w.sum(), "second": self.v.sum()})


class Record:
    """Hooks around a training, and what they heard."""

    def __init__(self, batch: int, options: TrainerOptions) -> None:
        self.steps: list[dict[str, float]] = []
        self.epochs: list[Progress] = []
        self.rewound: list[int] = []
        rows = [(Path(str(r)),) for r in range(SCANS)]
        data = ScanDataset(rows, Shelf(), Preprocessing(), {"subject": torch.arange(SCANS)})

        def loader(rank: int, processes: int, before: Callable[[int], Any]) -> ResumableLoader:
            plan = EpochBatches(np.arange(SCANS), batch, 0, rank, processes, options.accumulate)
            return ResumableLoader(data, plan, options.epochs, 0, before)

        self.hooks = Hooks(
            loader=loader,
            embed=lambda f, device: (torch.arange(SCANS), torch.zeros(SCANS, 1)),
            scan_weights=None,
            on_step=lambda row, step, batch: self.steps.append(dict(row)),
            on_epoch=lambda method, progress, device: self.epochs.append(progress),
            rewind=self.rewound.append,
            progress=lambda step, steps, row: None,
        )


def train(
    method: Method,
    run: Path,
    *,
    optim: Optimisation = SGD,
    batch: int = 4,
    resume: Path | None = None,
    **options: Any,
) -> Record:
    settings = TrainerOptions(**{"epochs": 2, "accelerator": "cpu", "clip": None, "log_steps": 1, **options})
    record = Record(batch, settings)
    fit(MethodModule(method, optim, settings, record.hooks), run, resume)
    return record


def test_every_step_moves_the_weights_by_the_written_rate(tmp_path: Path):
    method = Toy(per_scan=lambda guess: guess)
    train(method, tmp_path, batch=12)
    gradient = float(np.arange(SCANS).mean() / SCANS)
    assert method.notes["w"] == pytest.approx([0.5, 0.5 - 0.1 * gradient], abs=1e-6)
    schedule = replace(SGD, schedule="step", gamma=0.5, every_epochs=1)
    method = Toy(per_scan=lambda guess: guess)
    record = train(method, tmp_path / "b", optim=schedule, batch=12)
    assert [r["lr"] for r in record.steps] == pytest.approx([0.1, 0.05])
    assert float(method.w.detach()) == pytest.approx(0.5 - 0.15 * gradient, abs=1e-6)


def test_memory_moves_once_per_optimiser_step_and_epochs_are_counted(tmp_path: Path):
    method = Toy()
    record = train(method, tmp_path)
    assert method.notes["after"] == method.notes["step"] == list(range(6))
    assert method.notes["epoch"] == [(0, 0), (1, 3)]
    assert [(p.step, p.steps, p.epoch, p.epochs) for p in record.epochs] == [(3, 6, 0, 2), (6, 6, 1, 2)]
    assert [r["step"] for r in record.steps] == [1, 2, 3, 4, 5, 6]
    assert [r["epoch"] for r in record.steps] == [0, 0, 0, 1, 1, 1]
    assert {"loss", "lr", "grad_norm", "guess", "chance"} <= set(record.steps[0])


def test_accumulated_batches_take_the_step_of_one_large_batch(tmp_path: Path):
    whole, halves = Toy(), Toy()
    one = train(whole, tmp_path / "whole", batch=4)
    two = train(halves, tmp_path / "halves", batch=2, accumulate=2)
    assert halves.notes["w"][::2] == pytest.approx(whole.notes["w"], abs=1e-6)
    assert halves.notes["w"][::2] == halves.notes["w"][1::2], "no step between the two halves"
    assert halves.notes["after"] == list(range(6))
    assert len(one.steps) == len(two.steps)
    assert [r["grad_norm"] for r in two.steps] == pytest.approx([r["grad_norm"] for r in one.steps], rel=1e-5)


def test_memory_sees_all_micro_batches_of_a_step(tmp_path: Path):
    class Shopper(Toy):
        def step(self, batch: Batch, progress: Progress) -> Step:
            out = super().step(batch, progress)
            carry = {"keys": batch.index[:, None].float(), "last": batch.index[-1].float()}
            return Step(out.losses, out.log, carry)

        def after_step(self, step: Step, batch: Batch, progress: Progress) -> None:
            super().after_step(step, batch, progress)
            self.notes["w"].append((step.carry["keys"][:, 0].tolist(), step.carry["last"].item(), batch))

    whole, halves = Shopper(), Shopper()
    train(whole, tmp_path / "whole", batch=4)
    train(halves, tmp_path / "halves", batch=2, accumulate=2)
    seen = [[n for n in m.notes["w"] if isinstance(n, tuple)] for m in (whole, halves)]
    assert [keys for keys, *_ in seen[1]] == [keys for keys, *_ in seen[0]]
    assert [last for _, last, _ in seen[1]] == [keys[-1] for keys, *_ in seen[1]]
    for keys, _, batch in seen[1]:
        assert batch.index.tolist() == batch.meta["subject"].tolist() == keys
        assert len(batch) == 4
        assert batch.views == ()


def test_clipping_limits_the_gradient_and_logs_it_unclipped(tmp_path: Path):
    method = Toy(per_scan=lambda guess: 1000 * guess)
    record = train(method, tmp_path, batch=12, epochs=1, clip=0.5)
    assert float(method.w.detach()) == pytest.approx(0.5 - 0.1 * 0.5, abs=1e-5)
    assert record.steps[0]["grad_norm"] == pytest.approx(1000 * np.arange(SCANS).mean() / SCANS, rel=1e-5)


def test_each_player_has_its_own_rate_and_rhythm(tmp_path: Path):
    game = Game()
    optim = Optimisation(
        name="sgd", lr=0.1, weight_decay=0.0, momentum=0.0, schedule="constant",
        players={"second": PlayerOptions(lr=0.01, every=2)},
    )  # fmt: skip
    record = train(game, tmp_path, optim=optim)
    assert float(game.w.detach()) == pytest.approx(0.5 - 6 * 0.1, abs=1e-6)
    assert float(game.v.detach()) == pytest.approx(0.5 - 3 * 0.01, abs=1e-6)
    assert {"loss_first", "loss_second"} <= set(record.steps[0])
    assert "loss" not in record.steps[0]


def test_options_for_a_player_that_does_not_exist_are_refused():
    optim = Optimisation(players={"critic": PlayerOptions()})
    with pytest.raises(UserError, match=r"optim\.players names \['critic'\].*Toy are \['loss'\]"):
        MethodModule(Toy(), optim, TrainerOptions(), Record(4, TrainerOptions()).hooks)


def test_losses_that_are_not_the_players_are_our_own_mistake(tmp_path: Path):
    class Wrong(Toy):
        def step(self, batch: Batch, progress: Progress) -> Step:
            return Step({"losss": self.w.sum()})

    with pytest.raises(TypeError, match="losss"):
        train(Wrong(), tmp_path)


def test_a_loss_that_is_no_number_names_the_step_and_the_remedy(tmp_path: Path):
    calls = iter(range(100))
    method = Toy(per_scan=lambda guess: guess * (float("inf") if next(calls) == 4 else 1.0))
    method.temperature = 0.1
    with pytest.raises(TrainingStopped) as caught:
        train(method, tmp_path)
    assert "not finite at step 4 (epoch 1)" in str(caught.value)
    assert "lower optim.lr, raise method.temperature" in str(caught.value)
    assert [p.name for p in list_checkpoints(tmp_path / "checkpoints")] == ["step-00000003.ckpt"]


@pytest.mark.parametrize(
    ("precision", "scan", "weight", "words"),
    [
        ("32-true", float("nan"), 0.5, "views of rows [5, 6] hold NaN or Inf: run `medssl cohort check`"),
        ("32-true", 1.0, float("nan"), "weights became NaN or Inf in an earlier step"),
        ("16-mixed", 1.0, 0.5, "half precision overflowed"),
        ("32-true", 1.0, 0.5, "lower optim.lr, or set trainer.clip=1"),
    ],
)
def test_the_likely_cause_is_named(precision: Any, scan: float, weight: float, words: str):
    method = Toy()
    method.w.data.fill_(weight)
    options = TrainerOptions(precision=precision)
    module = MethodModule(method, SGD, options, Record(4, options).hooks)
    batch = Batch((torch.full((2, 1, 2, 2, 2), scan),), torch.tensor([5, 6]), {})
    out = Step({"loss": torch.tensor(float("inf"))})
    assert words in module.diagnosis(batch, out, Progress(7, 9, 1, 3))


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_the_precision_of_the_recipe_is_used_and_weights_stay_float32(precision: Any, tmp_path: Path):
    method = Toy()
    method.conv = nn.Conv3d(1, 1, 3, padding=1)
    train(method, tmp_path, precision=precision)
    assert set(method.notes["autocast"]) == {precision != "32-true"}
    shallow = torch.randn(1, 1, 2, 3, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):  # the convolutions that oneDNN gets wrong are guarded
        assert (method.conv(shallow).dtype == torch.float32) == (precision == "bf16-mixed")
    assert method.w.dtype == torch.float32
    assert torch.isfinite(method.w).all()


def test_under_bfloat16_every_step_sees_the_weights_of_the_step_before(tmp_path: Path):
    """Autocast keeps copies of weights until it is left: a training inside of one would go on with its first ones."""

    class Linear(Toy):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(1, 1, bias=False)
            self.seen: list[tuple[float, float]] = []

        def step(self, batch: Batch, progress: Progress) -> Step:
            out = self.layer(torch.ones(1, 1))
            self.seen.append((self.layer.weight.item(), out.item()))
            return Step({"loss": out.float().sum()})

    method = Linear()
    train(method, tmp_path, precision="bf16-mixed")
    weights, outputs = zip(*method.seen, strict=True)
    assert len(set(weights)) == len(method.seen) > 2
    torch.testing.assert_close(torch.tensor(outputs), torch.tensor(weights).bfloat16().float())


def test_checkpoints_come_at_every_epoch_and_every_few_steps_and_old_ones_go(tmp_path: Path):
    train(Toy(), tmp_path, checkpoint_steps=2, keep_checkpoints=9)
    assert [int(p.stem[5:]) for p in list_checkpoints(tmp_path / "checkpoints")] == [2, 3, 4, 6]
    train(Toy(), tmp_path / "few", keep_checkpoints=1)
    assert [int(p.stem[5:]) for p in list_checkpoints(tmp_path / "few" / "checkpoints")] == [6]


def test_a_resumed_training_repeats_no_step_and_asks_not_twice_before_an_epoch(tmp_path: Path):
    whole = Toy()
    train(whole, tmp_path, checkpoint_steps=2, keep_checkpoints=9)
    again = Toy()
    record = train(again, tmp_path / "b", resume=tmp_path / "checkpoints" / "step-00000002.ckpt")
    assert again.notes["step"] == [2, 3, 4, 5]
    assert again.notes["epoch"] == [(1, 3)], "epoch 0 was prepared before the checkpoint"
    assert record.rewound == [2]
    assert again.notes["w"] == whole.notes["w"][2:]
    assert torch.equal(again.w, whole.w)
    assert float(again.moves) == 6


class Anew(Toy):
    """w moves by the gradient of ``sign``; every second epoch it is set back to 0.5 and the sign changes."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(1, 1, bias=False)
        self.register_buffer("sign", torch.ones(()))

    def before_epoch(self, embed: Embed, progress: Progress) -> Sequence[nn.Module] | None:
        super().before_epoch(embed, progress)
        if progress.epoch % 2:
            return None
        nn.init.constant_(self.head.weight, 0.5)
        self.sign.neg_()
        return (self.head,)

    def step(self, batch: Batch, progress: Progress) -> Step:
        self.notes["w"].append(float(self.head.weight.detach()))
        return Step({"loss": self.sign * (self.head.weight.sum() + self.w.sum())})


ADAM = Optimisation(name="adam", lr=0.1, weight_decay=0.0, schedule="constant")


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd", "lars"])
def test_a_head_that_is_initialised_anew_starts_with_a_fresh_optimiser_state(name: str, tmp_path: Path):
    method = Anew()
    train(method, tmp_path, optim=replace(ADAM, name=name), epochs=3)
    w = method.notes["w"]
    assert (w[0], w[6]) == (0.5, 0.5)
    assert w[1] > w[0]
    assert w[7] - w[6] == pytest.approx(w[0] - w[1]), "after six steps up it goes down as it went up at first"


def test_the_moments_of_all_other_parameters_stay(tmp_path: Path):
    method = Anew()
    train(method, tmp_path, optim=ADAM, epochs=3, checkpoint_steps=1, keep_checkpoints=9)
    states = torch.load(tmp_path / "checkpoints" / "step-00000007.ckpt", weights_only=True)["optimizer_states"][0][
        "state"
    ]
    assert sorted(int(slot["step"]) for slot in states.values()) == [1, 7]


@pytest.mark.parametrize("step", [5, 6, 7])
def test_a_resume_around_the_new_start_gives_the_same_weights(step: int, tmp_path: Path):
    whole = Anew()
    train(whole, tmp_path, optim=ADAM, epochs=3, checkpoint_steps=1, keep_checkpoints=9)
    again = Anew()
    train(again, tmp_path / "b", optim=ADAM, epochs=3, resume=tmp_path / "checkpoints" / f"step-{step:08d}.ckpt")
    assert again.notes["w"] == whole.notes["w"][step:]
    assert torch.equal(again.head.weight, whole.head.weight)


def test_a_log_line_comes_every_few_steps_and_at_the_end_of_an_epoch(tmp_path: Path):
    record = train(Toy(), tmp_path, log_steps=2)
    assert [r["step"] for r in record.steps] == [2, 3, 4, 6]


def test_ctrl_c_ends_the_training_and_works_again_afterwards(tmp_path: Path):
    class Stopped(Toy):
        def after_step(self, step: Step, batch: Batch, progress: Progress) -> None:
            if progress.step == 4:
                signal.raise_signal(signal.SIGINT)

    outside = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores Ctrl-C
    try:
        with pytest.raises(KeyboardInterrupt):
            train(Stopped(), tmp_path)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, outside)
    assert [int(p.stem[5:]) for p in list_checkpoints(tmp_path / "checkpoints")] == [3]


def test_both_kinds_of_sampling_weights_multiply(tmp_path: Path):
    class Weighted(Toy):
        def scan_weights(self) -> Tensor:
            return torch.arange(SCANS).float()

    options = TrainerOptions()
    module = MethodModule(Weighted(), SGD, options, Record(4, options).hooks)
    assert module.start_epoch(0).tolist() == list(range(SCANS))
    halves = Record(4, options)
    object.__setattr__(halves.hooks, "scan_weights", np.full(SCANS, 0.5))
    module = MethodModule(Weighted(), SGD, options, halves.hooks)
    assert module.start_epoch(0).tolist() == [k / 2 for k in range(SCANS)]
    plain = MethodModule(Toy(), SGD, options, halves.hooks)
    assert plain.start_epoch(0).tolist() == [0.5] * SCANS


class Compared(Toy):
    """The toy as a loss of its embeddings: the spread of guesses counts, so that halves are not the whole."""

    step = Method.step

    def embed(self, batch: Batch) -> tuple[Tensor, ...]:
        self.notes["step"].append(len(batch))
        return (self.encoder(batch.views[0])[None] * self.w,)

    def compare(self, rows: tuple[Tensor, ...], batch: Batch, progress: Progress) -> Step:
        self.notes["w"].append(float(self.w.detach()))
        return Step({"loss": ((rows[0] - 1) ** 2).mean() + rows[0].var()}, {}, {"z": rows[0][0].detach()})


@pytest.mark.parametrize("accumulate", [1, 2])
def test_micro_batches_take_the_steps_of_the_whole_batch(accumulate: int, tmp_path: Path):
    whole, cached = Compared(), Compared()
    one = train(whole, tmp_path / "whole", batch=6, accumulate=accumulate)
    two = train(cached, tmp_path / "cached", batch=6, accumulate=accumulate, micro_batch=4)
    assert whole.notes["step"] == [6] * 4
    assert cached.notes["step"] == [4, 2, 4, 2] * 4, "each twice"
    assert cached.notes["w"] == pytest.approx(whole.notes["w"], abs=1e-6)
    assert cached.notes["after"] == whole.notes["after"] == list(range(4 // accumulate))
    assert [r["grad_norm"] for r in two.steps] == pytest.approx([r["grad_norm"] for r in one.steps], rel=1e-5)


def test_a_method_that_cannot_be_cached_is_refused():
    options = TrainerOptions(micro_batch=2)
    with pytest.raises(UserError, match=r"trainer\.micro_batch=2 needs a loss of the embeddings.*Toy"):
        MethodModule(Toy(), SGD, options, Record(4, options).hooks)


def test_what_is_automatic_is_decided_before_the_training():
    module = MethodModule(Toy(), SGD, TrainerOptions(accelerator="cpu"), Record(4, TrainerOptions()).hooks)
    assert module.options.precision in ("32-true", "bf16-mixed")
    assert module.options.memory_format in ("contiguous", "channels_last")


def test_channels_last_lays_out_kernels_and_views_and_changes_no_number(tmp_path: Path):
    class Looking(Toy):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.conv = nn.Conv3d(2, 2, 2)

        def step(self, batch: Batch, progress: Progress) -> Step:
            x = torch.cat([batch.views[0], batch.views[0] ** 2], 1)
            self.notes["step"].append(self.conv.weight.stride(1))
            guess = self.conv(x).mean((1, 2, 3, 4)) * self.w
            return Step({"loss": ((guess - 1) ** 2).mean()})

    plain, last = Looking(), Looking()
    train(plain, tmp_path / "a", precision="32-true", memory_format="contiguous")
    train(last, tmp_path / "b", precision="32-true", memory_format="channels_last")
    assert (set(plain.notes["step"]), set(last.notes["step"])) == ({8}, {1})
    torch.testing.assert_close(last.conv.weight, plain.conv.weight)
    state = torch.load(list_checkpoints(tmp_path / "b" / "checkpoints")[-1], weights_only=True)["state_dict"]
    assert torch.equal(state["method.conv.weight"], last.conv.weight)


@pytest.mark.parametrize("options", [{"strategy": "no-such"}, {"accelerator": "gpu"}])
def test_a_machine_that_cannot_do_it_is_said_in_one_sentence(options: dict[str, Any]):
    if options.get("accelerator") == "gpu" and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(UserError, match="this machine cannot train with") as caught:
        build_trainer(TrainerOptions(**options), [])
    assert "\n" not in str(caught.value)


def test_weight_decay_moves_along_its_schedule_while_it_trains(tmp_path: Path):
    class Shrinks(Anew):
        def before_epoch(self, embed: Embed, progress: Progress) -> None:
            pass

        def step(self, batch: Batch, progress: Progress) -> Step:
            self.notes["w"].append(float(self.head.weight.detach()))
            return Step({"loss": 0 * (self.head.weight.sum() + self.w.sum())})

    method = Shrinks()
    train(method, tmp_path, optim=replace(SGD, weight_decay=0.5, final_weight_decay=1.5))
    shrunk = 1 - np.array(method.notes["w"][1:]) / np.array(method.notes["w"][:-1])
    expected = 0.1 * (1.5 - 0.5 * (1 + np.cos(np.pi * np.arange(5) / 6)))
    assert shrunk == pytest.approx(expected, rel=1e-4)
    assert float(method.w.detach()) == 0.5, "vectors do not decay"
