"""One augmented view of a 1.5 mm volume, one thread: ours beside MONAI, nidl and torchio with the same parameters.

Flip, Gaussian blur, noise, cutout and resized crop are all on. Every chain gets the same axis, width, standard
deviation and boxes, and draws its noise inside the timing. Two orders: "fused" (the three separable transforms next
to each other: flip, crop, blur, noise, cutout) and "paper" (y-aware's: flip, blur, noise, cutout, crop).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from statistics import median
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from benchmarks.speed.timing import Part, paired, ratio
from medssl.transforms import Blur, Crop, Cutout, Flip, Noise, apply_chain
from medssl.views import ViewMaker, build_policy

SHAPE = (1, 121, 145, 121)
SIGMA, SD = 0.8, 0.3
CROP = {"start": [12, 20, 9], "size": [91, 109, 91]}
HOLE = {"start": [40, 50, 30], "size": [31, 37, 31], "value": 0.0}
ORDERS = {
    "fused": ("flip", "crop", "blur", "noise", "cutout"),
    "paper": ("flip", "blur", "noise", "cutout", "crop"),
}
Chain = Callable[[], Any]


def measure(quick: bool) -> Part:
    part = Part("Views: one view of a (1, 121, 145, 121) volume, one thread")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        x = volume()
        rounds = 5 if quick else 21
        for order, names in ORDERS.items():
            _one_order(part, order, names, x, rounds)
        _policies(part, 3 if quick else 9)
    finally:
        torch.set_num_threads(threads)
    return part


def _one_order(part: Part, order: str, names: tuple[str, ...], x: Tensor, rounds: int) -> None:
    copy = torch.empty_like(x)
    actions: dict[str, Chain] = {
        "medssl": partial(apply_chain, x, ours(names)),
        "medssl bf16": partial(apply_chain, x, ours(names), torch.bfloat16),
        "copy": partial(copy.copy_, x),
        "MONAI": partial(monai_chain(names), x),
    }
    for name in PEERS:
        _try_peer(part, name, order, names, x, actions)
    differences = compare(names, x, actions)
    times = paired(actions, rounds)
    prefix = "views." if order == "fused" else "views.paper_"
    where = "" if order == "fused" else ", y-aware's order"
    part.ratio(f"{prefix}vs_monai", ratio(times, "MONAI", "medssl"), f"MONAI's time over ours{where}")
    bf16 = ratio(times, "MONAI", "medssl bf16")
    part.ratio(f"{prefix}bf16_vs_monai", bf16, f"the same with bfloat16 products{where}")
    for name in ("nidl", "torchio"):
        if name in times:
            part.ratio(f"{prefix}vs_{name}", ratio(times, name, "medssl"), f"{name}'s time over ours{where}")
    part.ratio(
        f"{prefix}vs_copy", ratio(times, "medssl", "copy"), f"ours over one read and write{where}; 1 is the bound"
    )
    for name, seconds in times.items():
        row = {"order": order, "chain": name, "ms": 1e3 * median(seconds), "fastest ms": 1e3 * min(seconds)}
        part.rows.append(row | {"largest difference without noise / range": differences.get(name, "-")})


def _try_peer(part: Part, name: str, order: str, names: tuple[str, ...], x: Tensor, actions: dict[str, Chain]) -> None:
    try:
        actions[name] = partial(PEERS[name](names), x)
    except ImportError as problem:
        part.notes.append(f"{name} is left out ({order} order): {problem}.")


def volume() -> Tensor:
    """A smooth ellipsoid with texture, 0 outside, as a z-scored scan."""
    rng = np.random.default_rng(0)
    d, h, w = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE[1:]), indexing="ij")
    radius = d**2 + h**2 + w**2
    texture = np.cos(9 * d) * np.cos(7 * h) * np.cos(8 * w) + 0.3 * rng.standard_normal(SHAPE)
    return torch.from_numpy(np.where(radius < 0.8, texture, 0.0).astype(np.float32))


def compare(names: tuple[str, ...], x: Tensor, actions: dict[str, Chain]) -> dict[str, float]:
    """How far every chain is from ours without noise, over the range of ours (peers have their own borders)."""
    quiet = tuple(name for name in names if name != "noise")
    expected = apply_chain(x, ours(quiet))
    made: dict[str, Any] = {"medssl bf16": apply_chain(x, ours(quiet), torch.bfloat16)}
    made |= {"MONAI": monai_chain(quiet)(x)}
    made |= {n: build(quiet)(x) for n, build in PEERS.items() if n in actions}
    span = float(expected.max() - expected.min())
    inner = (slice(None), *(slice(8, -8),) * 3)
    return {
        name: float((torch.as_tensor(np.asarray(y))[inner] - expected[inner]).abs().max()) / span
        for name, y in made.items()
    }


def ours(names: tuple[str, ...]) -> list[Any]:
    drawn = {
        "flip": (Flip(), {"axis": 0}),
        "blur": (Blur(), {"sigma": SIGMA}),
        "noise": (Noise(), {"sd": SD, "seed": 7}),
        "cutout": (Cutout(), HOLE),
        "crop": (Crop(), CROP),
    }
    return [drawn[name] for name in names]


def monai_chain(names: tuple[str, ...]) -> Callable[[Tensor], Any]:
    """MONAI's Compose of its array transforms."""
    from monai import transforms as mt

    hole = mt.RandCoarseDropout(holes=1, spatial_size=tuple(HOLE["size"]), fill_value=0.0, prob=1.0)
    hole.hole_coords = [(slice(None), *_slices(HOLE))]
    hole._do_transform = True
    end = [a + n for a, n in zip(CROP["start"], CROP["size"], strict=True)]
    parts: dict[str, list[Any]] = {
        "flip": [mt.Flip(spatial_axis=0)],
        "blur": [mt.GaussianSmooth(sigma=SIGMA, approx="sampled")],
        "noise": [mt.RandGaussianNoise(prob=1.0, mean=0.0, std=SD, sample_std=False)],
        "cutout": [partial(hole, randomize=False)],
        "crop": [
            mt.SpatialCrop(roi_start=CROP["start"], roi_end=end),
            mt.Resize(spatial_size=SHAPE[1:], mode="trilinear"),
        ],
    }
    return mt.Compose([t for name in names for t in parts[name]])


def nidl_chain(names: tuple[str, ...]) -> Callable[[Tensor], Any]:
    """nidl's transforms one after another, with our boxes in place of its draws."""
    augment: Any = import_module("nidl.volume.transforms.augmentation")
    hole = augment.RandomErasing()
    crop = augment.RandomResizedCrop(SHAPE[1:])
    parts: dict[str, Any] = {
        "flip": augment.RandomFlip(axes=0),
        "blur": augment.RandomGaussianBlur(sigma=(SIGMA, SIGMA)),
        "noise": augment.RandomGaussianNoise(std=(SD, SD)),
        "cutout": _with_box(augment.RandomErasing, hole, HOLE),
        "crop": _with_box(augment.RandomResizedCrop, crop, CROP),
    }
    return _sequence([parts[name] for name in names], lambda x: x.numpy())


def _with_box(owner: Any, transform: Any, box: dict[str, Any]) -> Callable[[Any], Any]:
    def call(x: Any) -> Any:
        with mock.patch.object(owner, "_sample_3d_box", staticmethod(lambda *_: list(_slices(box)))):
            return transform(x)

    return call


def torchio_chain(names: tuple[str, ...]) -> Callable[[Tensor], Any]:
    """torchio's transforms one after another; it has no cutout, so a slice is assigned for it."""
    tio: Any = import_module("torchio")
    low, sizes = CROP["start"], CROP["size"]
    bounds = [v for a, n, full in zip(low, sizes, SHAPE[1:], strict=True) for v in (a, full - a - n)]

    def cut(image: Any) -> Any:
        image.data[(slice(None), *_slices(HOLE))] = 0.0
        return image

    parts: dict[str, list[Any]] = {
        "flip": [tio.Flip(axes=0)],
        "blur": [tio.Blur(std=(SIGMA,) * 3)],
        "noise": [tio.Noise(mean=0.0, std=SD, seed=7)],
        "cutout": [cut],
        "crop": [tio.Crop(tuple(bounds)), tio.Resize(SHAPE[1:])],
    }
    run = _sequence([t for name in names for t in parts[name]], lambda x: tio.ScalarImage(tensor=x))
    return lambda x: run(x).data


def _sequence(steps: list[Callable[[Any], Any]], start: Callable[[Tensor], Any]) -> Callable[[Tensor], Any]:
    def run(x: Tensor) -> Any:
        y = start(x)
        for step in steps:
            y = step(y)
        return y

    return run


def _slices(box: dict[str, Any]) -> tuple[slice, ...]:
    return tuple(slice(a, a + n) for a, n in zip(box["start"], box["size"], strict=True))


PEERS = {"nidl": nidl_chain, "torchio": torchio_chain}


def _policies(part: Part, rounds: int) -> None:
    """Milliseconds of a scan's two views with everything that is drawn, at 4 mm and 1.5 mm."""
    for shape, scans in (((1, 40, 48, 40), 20), (SHAPE, 3)):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        x[x < -0.5] = 0.0
        for name in ("robust", "yaware"):
            maker = ViewMaker(build_policy(name))
            times = paired({"make": lambda m=maker, x=x, n=scans: [m(x, 0, i) for i in range(n)]}, rounds)["make"]
            size = " x ".join(str(n) for n in shape[1:])
            part.rows.append({"policy": name, "volume": size, "ms per scan of two views": 1e3 * median(times) / scans})


if __name__ == "__main__":
    from benchmarks.speed.__main__ import markdown

    print(markdown(measure("--quick" in sys.argv)))
