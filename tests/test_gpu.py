"""What only a GPU can show: the CPU's numbers, views on the device, caching, NCCL. Skips where there is no CUDA."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from medssl import stages
from medssl.features.table import FeatureTable
from medssl.methods.base import Method
from medssl.recipe.catalog import CATALOG
from medssl.recipe.model import load_recipe
from medssl.training.gradcache import GradientCache
from medssl.training.hardware.device import compiled, processor
from medssl.transforms.base import full_precision
from medssl.types import Batch
from medssl.views import build_policy
from tests.conftest import tiny_recipe
from tests.methods.bench import BATCH, START, Bench
from tests.transforms.conftest import make_brain
from tests.transforms.test_chain import MIXED

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
ROOT = Path(__file__).resolve().parents[1]
WEAK = ("y_aware", "threshold", "exponential")
ABLE = [name for name, entry in CATALOG.items() if entry.load().embeds()]


@contextmanager
def exact() -> Iterator[None]:
    """float32 as such: neither products nor convolutions in TF32."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        with full_precision():
            yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def gradient(method: Method) -> Tensor:
    """Gradient of all parameters on the CPU, and a clean slate."""
    found = torch.cat([p.grad.flatten().cpu().double() for p in method.parameters() if p.grad is not None])
    method.zero_grad(set_to_none=True)
    return found


def error(got: Tensor, wanted: Tensor) -> float:
    return float((got - wanted).norm() / wanted.norm())


def there(batch: Batch) -> Batch:
    """A batch on the GPU."""
    return Batch(
        tuple(x.cuda() for x in batch.views),
        batch.index.cuda(),
        {k: v.cuda() for k, v in batch.meta.items()},
        {k: v.cuda() for k, v in batch.target.items()},
    )


def stepped(name: str, gpu: bool, **changes: object) -> tuple[dict[str, float], Tensor]:
    """Losses and gradient of one step, on one device or the other, from the same weights and views."""
    bench = Bench(name, **changes)
    method, batch = bench.start(), bench.batch(list(range(BATCH)))
    if gpu:
        method, batch = method.cuda(), there(batch)
    torch.manual_seed(3)
    with exact():
        out = method.step(batch, START)
        torch.stack(list(out.losses.values())).sum().backward()
    return {k: float(v.detach()) for k, v in out.losses.items()}, gradient(method)


DRAWS = ("mae", "bigan")
"""Names that draw random numbers in a step, which differ between devices."""


@pytest.mark.parametrize("name", CATALOG)
def test_a_step_gives_the_numbers_of_the_cpu(name: str) -> None:
    (losses, found), (wanted_losses, wanted) = stepped(name, True), stepped(name, False)
    if name in DRAWS:
        assert all(np.isfinite(v) for v in losses.values())
        assert torch.isfinite(found).all()
        return
    assert losses == pytest.approx(wanted_losses, rel=1e-4)
    assert error(found, wanted) < 1e-3


@pytest.mark.parametrize("name", WEAK)
def test_blocks_give_the_gradient_of_the_whole_matrix(name: str) -> None:
    (losses, found), (whole_losses, whole) = stepped(name, True, block=3), stepped(name, True)
    assert losses == pytest.approx(whole_losses, rel=1e-5)
    assert error(found, whole) < 1e-5


@pytest.mark.parametrize("name", ABLE)
def test_gradient_caching_is_exact(name: str) -> None:
    bench = Bench(name)
    method, batch = bench.start().cuda(), there(bench.batch(list(range(BATCH))))
    with exact():
        method.step(batch, START).losses["loss"].backward()
        wanted = gradient(method)
        cache = GradientCache(method, 3, "batch", lambda: torch.device("cuda"))
        cache.backward(cache.forward(batch, START, int).losses["loss"])
    assert error(gradient(method), wanted) < 1e-5


@pytest.mark.parametrize("spec", ["yaware", "robust", MIXED], ids=["yaware", "robust", "mixed"])
def test_views_are_those_of_the_loader(spec: object) -> None:
    shape = (1, 41, 48, 40)
    x = torch.stack([make_brain(shape, seed) for seed in range(6)])
    policy = build_policy(spec)
    for seed in range(3):
        drawn = [policy.sample(np.random.default_rng(10 * seed + b), shape) for b in range(len(x))]
        alone = torch.stack([policy.apply(x_b, d) for x_b, d in zip(x, drawn, strict=True)])
        torch.backends.cuda.matmul.allow_tf32 = True  # as a trainer may set it: views stay exact
        try:
            together = policy.apply_batch(x.cuda(), drawn).cpu()
        finally:
            torch.backends.cuda.matmul.allow_tf32 = False
        span = (alone.amax((1, 2, 3, 4)) - alone.amin((1, 2, 3, 4))).clamp(min=1e-3)
        assert ((alone - together).abs().amax((1, 2, 3, 4)) / span).max() < 1e-4


def test_the_compiled_encoder_gives_the_same_rows() -> None:
    bench = Bench("simclr")
    encoder, x = bench.encoder.cuda().eval(), bench.x[:4].cuda()
    with torch.no_grad(), exact():
        plain = encoder(x).pooled
        with compiled(encoder, True):
            fast = encoder(x).pooled
    torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-5)


def trained(cohort: Path, run: Path, method: str, *more: str) -> Path:
    changes = [c for c in tiny_recipe(cohort, run, method) if "accelerator" not in c and "precision" not in c]
    return stages.pretrain(load_recipe(method, [*changes, *more]), progress=False)


def read_losses(run: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / "logs" / "train.jsonl").read_text().splitlines()]


def test_pretrain_chooses_the_gpu_and_embeds_alike_on_both(cohort: Path, tmp_path: Path) -> None:
    run = trained(cohort, tmp_path / "run", "exponential")
    info = json.loads((run / "run.json").read_text())
    assert info["state"] == "finished"
    assert info["hardware"]["gpu"] == torch.cuda.get_device_name(0)
    assert np.isfinite(read_losses(run)).all()
    if processor("auto") == "gpu-bf16":
        assert load_recipe(run / "recipe.yaml").trainer.precision == "bf16-mixed"
        assert load_recipe(run / "recipe.yaml").trainer.memory_format == "channels_last"
    tables = [stages.embed(run, device=device, progress=False) for device in ("cuda", "cpu")]
    assert isinstance(tables[0], FeatureTable)
    apart = np.linalg.norm(tables[0].values - tables[1].values) / np.linalg.norm(tables[1].values)
    assert apart < 5e-3, "TF32 convolutions, no more"


def test_the_gpu_and_the_cpu_train_alike(cohort: Path, tmp_path: Path) -> None:
    same = ("trainer.precision=32-true", "trainer.checkpoint_steps=1", "trainer.keep_checkpoints=99")
    with exact():
        gpu = trained(cohort, tmp_path / "gpu", "y_aware", *same)
        cpu = trained(cohort, tmp_path / "cpu", "y_aware", *same, "trainer.accelerator=cpu")
    assert read_losses(gpu)[:4] == pytest.approx(read_losses(cpu)[:4], rel=1e-3)
    assert read_losses(gpu) == pytest.approx(read_losses(cpu), rel=5e-2)


@pytest.mark.parametrize(
    ("method", "more"),
    [
        ("simclr", ["trainer.micro_batch=3"]),
        ("threshold", ["trainer.strategy=ddp", "trainer.sync_batchnorm=true", "encoder.norm=batch"]),
        ("mae", ["trainer.strategy=fsdp"]),
        ("exponential", ["trainer.compile=true"]),
        ("y_aware", ["views.device=loader", "data.workers=2"]),
    ],
    ids=["micro_batch", "ddp", "fsdp", "compile", "loader"],
)
def test_what_a_gpu_run_can_ask_for(method: str, more: list[str], cohort: Path, tmp_path: Path) -> None:
    """Under torchrun where processes talk (NCCL, one of them), as a fresh process each."""
    run = tmp_path / "run"
    changes = [c for c in tiny_recipe(cohort, run, method) if "accelerator" not in c and "precision" not in c]
    several = any("strategy" in change for change in more)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "1"] if several else []
    done = subprocess.run(
        [sys.executable, *launcher, "-m", "medssl", "pretrain", method, *changes, *more, "monitors.map=false"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert np.isfinite(read_losses(run)).all()
    assert all(torch.isfinite(v).all() for v in load_file(run / "encoder.safetensors").values())
