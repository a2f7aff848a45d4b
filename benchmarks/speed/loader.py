"""Reading: warm cache against MONAI's PersistentDataset and against memory, cold files against LoadImage, 100k rows."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.data import DataLoader as MonaiLoader
from monai.data import PersistentDataset
from monai.transforms import (
    Compose,
    EnsureChannelFirst,
    EnsureChannelFirstd,
    LoadImage,
    LoadImaged,
    NormalizeIntensity,
    NormalizeIntensityd,
    Orientation,
    Orientationd,
)
from scipy.ndimage import gaussian_filter, zoom

from benchmarks.speed.timing import Part, paired, ratio
from medssl.data.loading.balance import BalancedDraws
from medssl.data.loading.cache import VolumeCache
from medssl.data.loading.dataset import EpochBatches, ResumableLoader, ScanDataset
from medssl.data.loading.entry_file import HEAD, header
from medssl.data.manifest.cohort import Cohort
from medssl.data.volumes.checksum import crc32
from medssl.data.volumes.preprocess import Preprocessing
from medssl.data.volumes.volume import read_volume
from medssl.recipe.build import assemble
from medssl.recipe.model import load_recipe
from medssl.views import ViewMaker, build_policy

SHAPE = (121, 145, 121)
FULL = (182, 218, 182)
ROWS = 100_000
PAGE = 4096
BATCH = 8


def measure(quick: bool) -> Part:
    part = Part("Reading")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            for name, shape in {"1.5 mm": SHAPE, "4 mm": (40, 48, 40)}.items():
                _warm(part, Path(folder) / name, name, shape, quick)
            _cold(part, Path(folder), quick)
            _manifest(part, Path(folder), quick)
    finally:
        torch.set_num_threads(threads)
    return part


def brain(shape: tuple[int, int, int], seed: int) -> np.ndarray:
    """Smooth tissue with noise inside an ellipsoid, 0 outside: packs about as well as a skull-stripped scan."""
    rng = np.random.default_rng(seed)
    coarse = gaussian_filter(rng.normal(size=[n // 4 + 1 for n in shape]), 1.5)
    smooth = zoom(coarse, [n / m for n, m in zip(shape, coarse.shape, strict=True)], order=1)
    grid = np.meshgrid(*[(np.arange(n) - n / 2) / (0.4 * n) for n in shape], indexing="ij", sparse=True)
    inside = sum(g**2 for g in grid) < 1
    tissue = 500 + 300 * smooth / smooth.std() + 20 * rng.normal(size=shape)
    return np.where(inside, np.clip(tissue, 1, 3000), 0)


def _warm(part: Part, folder: Path, name: str, shape: tuple[int, int, int], quick: bool) -> None:
    (folder / "scans").mkdir(parents=True)
    scans = [folder / "scans" / f"{k}.nii.gz" for k in range(8 if quick else 16)]
    for k, path in enumerate(scans):
        nib.save(nib.Nifti1Image(brain(shape, k).astype(np.int16), np.diag([-1, 1, 1, 1.0])), path)
    prep, images = Preprocessing(), [(path,) for path in scans]
    meta = {"age": torch.zeros(len(scans)), "site": torch.zeros(len(scans), dtype=torch.int64)}
    stores = {dtype: VolumeCache(folder / "cache", dtype=dtype) for dtype in ("float32", "float16")}
    keys = {dtype: store.prepare(images, prep, progress=False).keys for dtype, store in stores.items()}
    ours = {d: ScanDataset(images, store, prep, meta, keys=keys[d]) for d, store in stores.items()}
    steps = [LoadImaged("image"), EnsureChannelFirstd("image"), Orientationd("image", "RAS")]
    peer = PersistentDataset(
        [{"image": str(path), "age": 0.0, "site": 0} for path in scans],
        Compose([*steps, NormalizeIntensityd("image", nonzero=True)]),
        cache_dir=folder / "persistent",
    )
    for k in range(len(scans)):
        assert torch.allclose(torch.as_tensor(peer[k]["image"]), ours["float32"].volume(k), atol=1e-4)
    memory = [x.volume(k).numpy().copy() for x in [ours["float32"]] for k in range(len(scans))]
    into = np.empty_like(memory[0])

    def copied(volume: Callable[[int], torch.Tensor]) -> Callable[[], None]:
        place = torch.from_numpy(into)
        return lambda: [place.copy_(volume(k)) for k in range(len(scans))] and None

    def touched(volume: Callable[[int], torch.Tensor]) -> Callable[[], None]:
        return lambda: [volume(k).view(-1)[:: PAGE // 4].sum() for k in range(len(scans))] and None

    read: Callable[[int], torch.Tensor] = lambda k: ours["float32"][k, 0]["views"][0]  # noqa: E731
    half: Callable[[int], torch.Tensor] = lambda k: ours["float16"][k, 0]["views"][0]  # noqa: E731
    theirs: Callable[[int], torch.Tensor] = lambda k: torch.as_tensor(peer[k]["image"])  # noqa: E731
    actions = {
        "memory, copied": lambda: [np.copyto(into, x) for x in memory] and None,
        "medssl, read": touched(read),
        "medssl, copied": copied(read),
        "medssl float16, copied": copied(half),
        "PersistentDataset, read": touched(theirs),
        "PersistentDataset, copied": copied(theirs),
    }
    rounds = 7 if quick else 15
    times = paired(actions, rounds)
    for what, seconds in times.items():
        part.rows.append({"volume": name, "warm": what, "ms per scan": 1e3 * median(seconds) / len(scans)})
    times |= _batches(part, name, ours["float32"], peer, max(3, rounds // 2))
    if shape == SHAPE:
        found = ratio(times, "PersistentDataset, read", "medssl, read")
        part.ratio("loader.vs_persistent", found, "MONAI PersistentDataset over ours, warm, until a scan can be read")
        found = ratio(times, "PersistentDataset, batches", "medssl, batches")
        part.ratio("loader.vs_persistent_batches", found, "the same as collated batches of 8, no worker process")
        found = ratio(times, "PersistentDataset, batches of 2 workers", "medssl, batches of 2 workers")
        part.ratio("loader.vs_persistent_workers", found, "the same, 2 processes there, 2 threads here")
        found = ratio(times, "medssl, copied", "memory, copied")
        part.ratio("loader.vs_memcpy", found, "reading a warm scan over copying its bytes from memory")
        error = max(float((half(k) - read(k)).abs().max()) for k in range(len(scans)))
        part.notes.append(f"float16 entries: largest error {error:.4f} of z-scored intensities.")
        part.notes.append(
            "Warm reading of a scan hands out the mapped entry: one value of every 4 KiB page is read, so that lazily "
            "mapped pages are paid for. Copied: the same into a buffer. Peer and we hold the same numbers (asserted)."
        )


def _batches(
    part: Part, name: str, dataset: ScanDataset, peer: PersistentDataset, rounds: int
) -> dict[str, list[float]]:
    """Epochs of batches, one held at a time, as ``medssl pretrain`` reads them where views are made on a GPU."""
    rows = np.tile(np.arange(len(dataset)), 48 // len(dataset))
    dataset.maker, dataset.late = ViewMaker(build_policy("robust"), seed=0), True
    again = torch.utils.data.Subset(peer, rows.tolist())

    def drawn(loader: Any) -> Callable[[], None]:
        return lambda: [None for _ in loader] and None

    def late(workers: int) -> Callable[[], None]:
        loader = ResumableLoader(dataset, EpochBatches(rows, BATCH, 0), 1, workers, lambda epoch: None)
        return lambda: loader.load_state_dict(loader.state_dict() | {"handed_out": 0}) or drawn(loader)()

    actions = {
        "medssl, batches": late(0),
        "PersistentDataset, batches": drawn(MonaiLoader(again, batch_size=BATCH)),
        "medssl, batches of 2 workers": late(2),
        "PersistentDataset, batches of 2 workers": drawn(
            MonaiLoader(again, batch_size=BATCH, num_workers=2, persistent_workers=True)
        ),
    }
    times = paired(actions, rounds)
    for what, seconds in times.items():
        part.rows.append({"volume": name, "warm": what, "ms per scan": 1e3 * median(seconds) / len(rows)})
    return times


def _cold(part: Part, folder: Path, quick: bool) -> None:
    load, prep = LoadImage(image_only=True), Preprocessing()
    turn = Compose([load, EnsureChannelFirst(), Orientation("RAS")])
    normalise = Compose([turn, NormalizeIntensity(nonzero=True)])
    peers = {"read": load, "in RAS": lambda path: torch.as_tensor(turn(path)).contiguous(),
             "normalised": lambda path: torch.as_tensor(normalise(path)).contiguous()}  # fmt: skip
    ours = {"read": read_volume, "in RAS": read_volume, "normalised": lambda path: prep.apply(read_volume(path))}
    ratios: dict[str, list[float]] = {goal: [] for goal in peers}
    for name, kind in {"int16": np.int16, "float32": np.float32}.items():
        paths = []
        for k in range(2):
            paths.append(folder / f"{name}{k}.nii.gz")
            nib.save(nib.Nifti1Image(brain(FULL, k).astype(kind), np.diag([-1, 1, 1, 1.0])), paths[-1])
            assert np.array_equal(read_volume(paths[-1]).data, peers["in RAS"](paths[-1]).numpy())
        for goal in peers:
            times = paired(
                {"MONAI": partial(_all, peers[goal], paths), "medssl": partial(_all, ours[goal], paths)},
                5 if quick else 15,
            )
            ratios[goal].append(ratio(times, "MONAI", "medssl"))
            row = {"cold, until": goal, "stored as": name, "MONAI over ours": ratios[goal][-1]}
            spent = {f"{who}, ms per scan": 1e3 * median(times[who]) / len(paths) for who in times}
            part.rows.append(row | spent)
    meanings = {
        "cold_vs_monai": ("read", "MONAI LoadImage, which does not reorient, over ours in RAS"),
        "cold_ras_vs_monai": ("in RAS", "LoadImage, Orientation and a contiguous tensor over the same of ours"),
        "cold_normalised_vs_monai": ("normalised", "the same and NormalizeIntensity over our preprocessing"),
    }
    for key, (goal, meaning) in meanings.items():
        part.ratio(f"loader.{key}", median(ratios[goal]), f"{meaning}; .nii.gz of 182x218x182")
    part.notes.append(
        f"LoadImage reads by {'ITK' if find_spec('itk') else 'nibabel (ITK is not installed)'}. Our normalisation also "
        "fills holes of the mask and looks for NaN and constant scans. "
        f"libdeflate: {'yes' if find_spec('deflate') else 'no, zlib instead'}."
    )


def _all(action: Callable[[Path], object], paths: list[Path]) -> None:
    for path in paths:
        action(path)


def _manifest(part: Part, folder: Path, quick: bool) -> None:
    recipe = large_manifest(folder / "many")

    def first_batch() -> object:
        made = assemble(recipe, progress=False)
        plan = EpochBatches(made.train_rows, recipe.data.batch_size, 0)
        return next(iter(ResumableLoader(made.dataset, plan, 1, 0, lambda epoch: None)))

    seconds, work = [], []
    for _ in range(2 if quick else 4):
        began, worked = time.perf_counter(), time.process_time()
        first_batch()
        seconds.append(time.perf_counter() - began)
        work.append(time.process_time() - worked)
    part.ratio("loader.manifest_100k_s", median(seconds[1:]), "seconds from 100,000 rows to the first batch")
    part.ratio("loader.manifest_100k_cpu_s", median(work[1:]), "of them seconds of computing")
    for rows in (1000, ROWS):
        plan, sites = EpochBatches(np.arange(rows), 64, 0), np.arange(rows) % 60
        even = BalancedDraws(np.arange(rows), sites, 64, plan.per_epoch, 0)
        for what, draw in {"plain": plan.batches, "even over 60 sites": even.epoch}.items():
            began = time.perf_counter()
            count = sum(len(draw(epoch)) for epoch in range(3 if rows == ROWS else 50))
            each = 1e6 * (time.perf_counter() - began) / count
            part.rows.append({"sampling": what, "rows": rows, "microseconds per batch of 64": each})


def large_manifest(folder: Path, rows: int = ROWS) -> Any:
    """Recipe over a manifest whose files are links to a few real ones, and whose cache entries are sparse but for
    the batch that is read: each has a header of its own, so they can be no links."""
    recipe = load_recipe(
        "simclr", [f"data.manifest={folder / 'manifest.csv'}", f"data.cache={folder / 'cache'}", "data.batch_size=64"]
    )
    prep = Preprocessing.from_dict(recipe.data.preprocessing.model_dump())
    store, real = VolumeCache(folder / "cache"), []
    for k in range(8):
        real.append(folder / f"real{k}.nii.gz")
        folder.mkdir(exist_ok=True)
        nib.save(nib.Nifti1Image(brain((40, 48, 40), k).astype(np.int16), np.diag([-4, 4, 4, 1.0])), real[-1])
    entries = [store.path(key) for key in store.prepare([(path,) for path in real], prep, progress=False).keys]
    volumes = [np.load(entry) for entry in entries]
    empty = np.zeros_like(volumes[0])
    sums = [crc32(x) for x in (*volumes, empty)]
    lines = ["participant_id,session,image,age,sex,site,dataset,split,weight,iq,hand"]
    for i in range(rows):
        image = folder / f"{i % 64:02d}" / f"sub-{i:06d}.nii.gz"
        if i < 64:
            image.parent.mkdir()
        os.link(real[7 if i % 10 == 0 else i % 7], image)  # no scan on both sides of the split
        known = f"{20 + i % 60}.5,{'MF'[i % 2]},site{i % 60:02d},ds{i % 6},{'train' if i % 10 else 'internal_test'}"
        lines.append(f"sub-{i:06d},1,{i % 64:02d}/{image.name},{known},1,{80 + i % 40},{'LR'[i % 9 > 0]}")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    cohort = Cohort.read(folder / "manifest.csv")
    first = {draw.row for draw in EpochBatches(cohort.rows("train"), recipe.data.batch_size, 0).batches(0)[0]}
    for i, group in enumerate(cohort.files(cohort.rows())):
        key, which = store.key(group, prep), i % 7 if i in first else -1
        entry = store.path(key)
        entry.parent.mkdir(exist_ok=True)
        with entry.open("wb") as file:
            file.write(header(empty, key, sums[which], 0))
            file.write(volumes[which].tobytes() if i in first else b"")
            file.truncate(HEAD + empty.nbytes)
    return recipe
