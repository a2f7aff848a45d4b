"""What a CUDA GPU does with full-size scans: networks, views made on it, losses, gradient caching, a whole training.

python -m benchmarks.gpu.run [--quick] [--json FILE | --record]

Times are medians between synchronisations after warm-up; memory is the peak that torch allocated.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.record import write
from benchmarks.scaling.measure import SHAPE, made_scan
from benchmarks.speed.__main__ import markdown
from benchmarks.speed.losses import KERNELS
from benchmarks.speed.timing import Part
from benchmarks.speed.views import ORDERS, monai_chain, ours, volume
from medssl import stages
from medssl.data.loading.cache import VolumeCache
from medssl.data.volumes.preprocess import Preprocessing
from medssl.encoders import build_encoder
from medssl.files import write_atomic
from medssl.losses.contrastive import nt_xent_rows
from medssl.losses.kernel import exponential_rows, threshold_rows, y_aware_rows
from medssl.losses.pairs import label_order, labelled_pairs, tile, view_masks
from medssl.losses.rows import blockwise
from medssl.methods.base import Method
from medssl.recipe.catalog import build_method
from medssl.recipe.model import load_recipe
from medssl.training.gradcache import GradientCache
from medssl.training.hardware.device import compiled, laid_out, lay_out_
from medssl.training.hardware.precision import guard_convolutions_
from medssl.transforms.batched import apply_batch
from medssl.types import Batch, Facts, Progress

ENCODERS: dict[str, dict[str, Any]] = {
    "resnet18": {"name": "resnet18", "stem": "imagenet"},
    "densenet121": {"name": "densenet121", "stem": "imagenet"},
    "alexnet3d": {"name": "alexnet3d"},
}
START = Progress(0, 1, 0, 1)
WIDE = 2**30


def timed(action: Callable[[], object], rounds: int = 5, warmup: int = 2) -> tuple[float, float]:
    """Median seconds, and GiB at the peak beyond what was allocated before."""
    for _ in range(warmup):
        action()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before, seconds = torch.cuda.memory_allocated(), []
    for _ in range(rounds):
        began = time.perf_counter()
        action()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return median(seconds), (torch.cuda.max_memory_allocated() - before) / WIDE


def networks(scans: int) -> Part:
    """Forward and backward pass of both views of a scan, per encoder, precision and memory format."""
    part = Part(f"Networks: both views of a scan of {' x '.join(map(str, SHAPE))}, forward and backward")
    x = torch.randn(2 * scans, 1, *SHAPE, device="cuda")
    ways = [
        ("32-true", "contiguous", False),
        ("bf16-mixed", "contiguous", False),
        ("bf16-mixed", "channels_last", False),
    ]
    for name, spec in ENCODERS.items():
        found: dict[tuple[str, str, bool], float] = {}
        for way in [*ways, ("bf16-mixed", "channels_last", True)] if name == "resnet18" else ways:
            precision, form, fast = way
            with contextlib.suppress(torch.OutOfMemoryError), contextlib.ExitStack() as stack:
                torch.manual_seed(0)
                net = guard_convolutions_(lay_out_(build_encoder(**spec, in_channels=1, shape=SHAPE).cuda(), form))
                stack.enter_context(compiled(net, fast))
                seconds, gib = timed(partial(_pass, net, laid_out(x, form), precision != "32-true"))
                found[way] = 1e3 * seconds / scans
                row = {"encoder": name, "precision": precision, "memory format": form, "compiled": fast}
                part.rows.append(row | {"ms per scan": found[way], "GiB at the peak": gib, "views": len(x)})
        if ways[0] in found and ways[2] in found:
            key = f"gpu.{name}_auto_vs_float32"
            part.ratio(key, found[ways[0]] / found[ways[2]], "time of float32 (TF32 convolutions) over what auto takes")
    return part


def _pass(net: torch.nn.Module, x: Tensor, half: bool) -> None:
    with torch.autocast("cuda", torch.bfloat16, enabled=half):
        pooled = net(x).pooled
    pooled.float().square().mean().backward()
    net.zero_grad(set_to_none=True)


def views(count: int) -> Part:
    """Our batched views beside MONAI's Compose on the GPU, same parameters, and beside reading and writing."""
    part = Part("Views made on the GPU")
    x = volume().cuda()[None].expand(count, -1, -1, -1, -1).contiguous()
    copy = torch.empty_like(x)
    moved = timed(lambda: copy.copy_(x))[0] / count
    for order, names in ORDERS.items():
        slots, params = zip(*ours(names), strict=True)
        drawn = [[p] * count for p in params]
        chain = monai_chain(names)
        times = {
            "medssl": timed(partial(apply_batch, x, slots, drawn))[0] / count,
            "medssl bf16": timed(partial(apply_batch, x, slots, drawn, torch.bfloat16))[0] / count,
            "MONAI": timed(partial(_each, chain, x[:4]))[0] / 4,
        }
        part.rows += [{"order": order, "chain": n, "ms per view": 1e3 * t} for n, t in times.items()]
        prefix = "gpu.views" if order == "fused" else "gpu.views_paper"
        part.ratio(f"{prefix}_vs_monai", times["MONAI"] / times["medssl"], "MONAI's Compose on the GPU over ours")
        part.ratio(f"{prefix}_vs_copy", times["medssl"] / moved, "ours over one read and write on the GPU")
    return part


def _each(chain: Callable[[Tensor], Any], x: Tensor) -> None:
    for one in x:
        chain(one)


def losses(sizes: tuple[int, ...]) -> Part:
    """Forward and backward from embeddings, as a method calls them, at growing N."""
    part = Part("Losses on the GPU, from embeddings, in blocks of rows")
    weak = {"L_thr": threshold_rows, "L_exp": exponential_rows, "y-aware": y_aware_rows}
    for n in sizes:
        z_ND = F.normalize(torch.randn(n, 128, device="cuda"), dim=1).requires_grad_()
        age_N = tile(10 + 70 * torch.rand(n // 2, device="cuda"), 2)
        scan_N = tile(torch.arange(n // 2, device="cuda"), 2)
        labels = {"age": age_N}
        visit_N = label_order(KERNELS, labels, scan_N)

        def classes(rows: Tensor, scan_N: Tensor = scan_N) -> tuple[Tensor, Tensor]:
            return view_masks(scan_N[rows], scan_N, scan_N[rows], scan_N, rows_N=rows)

        near = labelled_pairs(KERNELS, labels, labels, scan_N, scan_N)
        for name in ("NT-Xent", *weak):
            rows: Any = weak.get(name, nt_xent_rows)
            rows = partial(rows, order_M=visit_N) if name == "L_thr" else rows
            pairs = classes if name == "NT-Xent" else near

            def action(rows: Any = rows, pairs: Any = pairs, z_ND: Tensor = z_ND, visit_N: Any = visit_N) -> object:
                return torch.autograd.grad(
                    blockwise(rows, z_ND, z_ND, pairs, temperature=0.1, visit_N=visit_N)[0], z_ND
                )

            seconds, gib = timed(action, 2, 1)
            one = n * n * 4 / WIDE
            part.rows.append({"N": n, "loss": name, "ms": 1e3 * seconds, "GiB": gib, "GiB of one N x N matrix": one})
        last = {r["loss"]: r["ms"] for r in part.rows if r["N"] == n}
        for name, key in (("L_thr", "thr"), ("L_exp", "exp"), ("y-aware", "yaware")):
            part.ratio(f"gpu.{key}_vs_ntxent_{n}", last[name] / last["NT-Xent"], f"time over NT-Xent's, N = {n}")
    return part


def caching(scans: int, micro: int) -> Part:
    """One exact step of a batch in micro-batches beside one micro-batch alone, and beside the whole where it fits."""
    part = Part(f"Gradient caching: SimCLR, ResNet-18, bf16, {scans} scans in parts of {micro}")
    x = torch.randn(scans, 1, *SHAPE, device="cuda")
    other, method = x + 0.1, _simclr(scans)
    cache = GradientCache(method, micro, "batch", lambda: torch.device("cuda"))

    def batch(n: int) -> Batch:
        index = torch.arange(n, device="cuda")
        return Batch((x[:n], other[:n]), index, {"subject": index})

    def cached(n: int) -> None:
        with torch.autocast("cuda", torch.bfloat16):
            cache.backward(cache.forward(batch(n), START, int).losses["loss"])

    def whole(n: int) -> None:
        with torch.autocast("cuda", torch.bfloat16):
            loss = method.step(batch(n), START).losses["loss"]
        loss.backward()

    actions: dict[str, Callable[[], None]] = {
        "one micro-batch alone": partial(whole, micro),
        "whole batch, cached": partial(cached, scans),
        "whole batch at once": partial(whole, scans),
    }
    found: dict[str, tuple[float, float]] = {}
    for name, action in actions.items():
        try:
            found[name] = timed(action, 2, 1)
        except torch.OutOfMemoryError:
            part.notes.append(f"{name}: out of memory.")
            continue
        part.rows.append({"step": name, "seconds": found[name][0], "GiB": found[name][1]})
    memory = found["whole batch, cached"][1] / found["one micro-batch alone"][1]
    part.ratio("gpu.gradcache_memory", memory, "peak memory over one micro-batch's")
    if "whole batch at once" in found:
        slower = found["whole batch, cached"][0] / found["whole batch at once"][0]
        part.ratio("gpu.gradcache_time", slower, "time over the whole batch at once")
    return part


def _simclr(scans: int) -> Method:
    torch.manual_seed(0)
    facts = Facts(scans, np.arange(scans), scans, (1, *SHAPE))
    net = build_encoder("resnet18", in_channels=1, shape=SHAPE, norm="group", stem="imagenet")
    method = build_method("simclr", net, facts, {"projector": [512, 128]}).cuda()
    guard_convolutions_(lay_out_(method, "channels_last"))
    return method


def training(scans: int, epochs: int) -> Part:
    """``medssl pretrain`` on a warm cache, views on the GPU and in the loader: where the time goes."""
    part = Part("A training: L_exp, ResNet-18, batch 32, warm cache")
    with tempfile.TemporaryDirectory() as folder:
        manifest, cache = _cohort(Path(folder), scans)
        for place, workers in (("device", 4), ("loader", max(2, (os.cpu_count() or 2) - 2))):
            recipe = load_recipe("exponential", [
                f"data.manifest={manifest}", f"data.cache={cache}", f"output={Path(folder) / place}",
                f"data.preprocessing={{spacing: [1.5, 1.5, 1.5], shape: {list(SHAPE)}}}", "data.batch_size=32",
                f"data.workers={workers}", f"views.device={place}", f"trainer.epochs={epochs}",
                f"trainer.log_steps={scans // 32}",
                "encoder={name: resnet18, norm: group, stem: imagenet}", "monitors.every=0", "monitors.map=false",
            ])  # fmt: skip
            torch.cuda.reset_peak_memory_stats()
            run = stages.pretrain(recipe, progress=False)
            lines = [json.loads(line) for line in (run / "logs" / "train.jsonl").read_text().splitlines()]
            speeds = [line["scans_per_s"] for line in lines[1:]]  # one line an epoch, of which the first warms up
            row = {"views": place, "workers": workers, "scans/s": median(speeds)}
            part.rows.append(row | {"GiB at the peak": torch.cuda.max_memory_allocated() / WIDE})
    return part


def _cohort(folder: Path, scans: int) -> tuple[Path, Path]:
    """A manifest of people whose files are copies of one scan, and the filled cache."""
    scan = made_scan(folder / "scan.nii.gz")
    images = [folder / f"sub-{i:04d}.nii.gz" for i in range(scans)]
    for image in images:
        image.write_bytes(scan.read_bytes())
    lines = [f"sub-{i:04d},{image.name},{20 + i % 60},{'MF'[i % 2]},s{i % 6},train" for i, image in enumerate(images)]
    head = "participant_id,image,age,sex,site,split"
    (folder / "manifest.csv").write_text("\n".join([head, *lines]) + "\n")
    prep = Preprocessing.from_dict({"spacing": (1.5,) * 3, "shape": SHAPE})
    VolumeCache(folder / "cache").prepare([(image,) for image in images], prep, progress=False)
    return folder / "manifest.csv", folder / "cache"


def parts(quick: bool) -> Iterator[Callable[[], Part]]:
    """What is measured, in order."""
    yield partial(networks, 2 if quick else 16)
    yield partial(views, 4 if quick else 32)
    yield partial(losses, (1024,) if quick else (4096, 32768))
    yield partial(caching, 4, 2) if quick else partial(caching, 128, 16)
    yield partial(training, *((64, 2) if quick else (256, 4)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs")
    parser.add_argument("--json", type=Path, help="also write what was found here")
    parser.add_argument("--record", action="store_true", help="write a dated record into benchmarks/results")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("there is no CUDA GPU here")
    found: list[Part] = []
    for make in parts(options.quick):
        began = time.perf_counter()
        found.append(make())
        torch.cuda.empty_cache()
        print(markdown(found[-1]), f"{time.perf_counter() - began:.0f} s\n", flush=True)
        content = {"gpu": torch.cuda.get_device_name(0), "parts": [vars(part) for part in found]}
        if options.json:
            write_atomic(options.json, json.dumps(content, indent=1) + "\n")
    if options.record:
        print(write("gpu", content, "\n".join(markdown(part) for part in found)))


if __name__ == "__main__":
    main()
