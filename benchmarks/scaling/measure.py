"""The few numbers of this machine that the plan needs: one scan decoded, read back, augmented, and the network."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from medssl.data.loading.cache import VolumeCache
from medssl.data.volumes.preprocess import Preprocessing
from medssl.data.volumes.volume import write_volume
from medssl.encoders import build_encoder
from medssl.files import make_folder
from medssl.views.policies import build_policy

SHAPE = (121, 145, 121)
SPACING_MM = 1.5


@dataclass(frozen=True)
class Measured:
    """Core-seconds (CPU time, so that a busy machine counts little and waiting for a disk nothing), and
    seconds of the network on ``device``; raw_bytes of the file; flops: forward of one view.
    """

    decode_s: float
    read_s: float
    view_s: float
    hand_s: float
    raw_bytes: int
    net_s: float | None = None
    device: str = ""
    parameters: int = 0
    flops: int = 0


def measure(scan: Path | None = None, *, policy: str = "yaware", views: int = 2, rounds: int = 5, network: bool = True) -> Measured:  # fmt: skip  # noqa: E501
    """Medians over rounds with one thread; views are drawn anew, so theirs is a mean over 4 * rounds draws.

    scan: a .nii.gz of the reader (default: a made one on the 1.5 mm grid of 121 x 145 x 121). network: also time
    ResNet-18, on the GPU where there is one, else one pass on one core as a stand-in.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = scan or made_scan(Path(folder) / "scan.nii.gz")
            prep = Preprocessing.from_dict({"spacing": (SPACING_MM,) * 3, "shape": SHAPE})
            places = iter(range(rounds + 1))
            decode = timed(lambda: VolumeCache(Path(folder) / str(next(places))).load([path], prep), rounds)
            cache = VolumeCache(Path(folder) / "0")
            read = timed(lambda: np.array(cache.load([path], prep)), 4 * rounds)
            volume = torch.from_numpy(np.array(cache.load([path], prep)))
            raw = path.stat().st_size
        chain, rng = build_policy(policy), np.random.default_rng(0)
        began = time.process_time()
        for _ in range(4 * rounds):
            chain.apply(volume, chain.sample(rng, tuple(volume.shape)))
        view = (time.process_time() - began) / (4 * rounds)
        found = Measured(decode, read, view, handed_over(views), raw)
        return _with_network(found, views) if network else found
    finally:
        torch.set_num_threads(threads)


class _Ready(torch.utils.data.Dataset[list[torch.Tensor]]):
    """Views that need no work but to be written."""

    def __init__(self, views: int, scans: int) -> None:
        self.views, self.scans = views, scans

    def __len__(self) -> int:
        return self.scans

    def __getitem__(self, k: int) -> list[torch.Tensor]:
        return [torch.full((1, *SHAPE), float(k)) for _ in range(self.views)]


def handed_over(views: int, scans: int = 64, batch: int = 8) -> float:
    """CPU seconds per view that a process spends to get batches from two worker processes into memory of its own."""
    loader = torch.utils.data.DataLoader(_Ready(views, scans), batch, num_workers=2)
    into = torch.zeros(batch, 1, *SHAPE)
    batches = iter(loader)
    for held in next(batches):
        into.copy_(held)
    began = time.process_time()
    for taken in batches:
        for held in taken:
            into.copy_(held)
    return (time.process_time() - began) / ((scans - batch) * views)


def made_scan(path: Path) -> Path:
    """A head-like int16 scan of smooth shapes and noise, zero outside, which packs about as well as a T1w scan."""
    rng = np.random.default_rng(0)
    grid = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    radius = sum((axis / reach) ** 2 for axis, reach in zip(grid, (0.75, 0.85, 0.75), strict=True))
    tissue = 600 + 250 * np.cos(9 * grid[0]) * np.cos(7 * grid[1]) * np.cos(8 * grid[2]) + rng.normal(0, 25, SHAPE)
    values = np.where(radius < 1, tissue, 0.0).round().astype(np.int16)
    make_folder(path.parent)
    write_volume(path, values, np.diag([SPACING_MM, SPACING_MM, SPACING_MM, 1.0]))
    return path


def timed(action: Callable[[], object], rounds: int, clock: Callable[[], float] = time.process_time) -> float:
    """Median of a call by a clock (default: CPU time of this process), after one call that does not count."""
    action()
    times = []
    for _ in range(rounds):
        began = clock()
        action()
        times.append(clock() - began)
    return statistics.median(times)


def _with_network(found: Measured, views: int) -> Measured:
    """Forward and backward of ResNet-18 (width 64, stem of ImageNet) on all views of a scan."""
    from torch.utils.flop_counter import FlopCounterMode

    gpu = torch.cuda.is_available()
    device = torch.device("cuda" if gpu else "cpu")
    encoder = build_encoder("resnet18", in_channels=1, shape=SHAPE, width=64, stem="imagenet", norm="batch")
    encoder = encoder.to(device).train()
    scans = 8 if gpu else 1
    x_NCDHW = torch.randn(scans * views, 1, *SHAPE, device=device)

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=gpu):
            loss = encoder(x_NCDHW).pooled.float().square().mean()
        loss.backward()
        if gpu:
            torch.cuda.synchronize()

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        encoder(x_NCDHW[:2])
    if gpu:
        seconds = timed(step, 10, time.perf_counter) / scans
    else:
        began = time.process_time()
        step()
        seconds = time.process_time() - began
    name = torch.cuda.get_device_name(0) if gpu else "one CPU core"
    size = sum(p.numel() for p in encoder.parameters())
    return Measured(found.decode_s, found.read_s, found.view_s, found.hand_s, found.raw_bytes, seconds, name, size, counter.get_total_flops() // 2)  # fmt: skip  # noqa: E501
