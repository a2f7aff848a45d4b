"""Which scans does `embed` call unlike the training's, beside a Mahalanobis distance of the features alone?

python -m benchmarks.likeness.run --data FOLDER --out /tmp/likeness [--epochs 4]

An encoder is trained on 60 people of IXI. Other people of IXI, the Novosibirsk cohort (another skull-stripping) and
altered copies of the other IXI scans are embedded. The alternative, `features only`, names a scan where its features
lie farther than the same limit from those of the training scans. The cost is that of embedding cached scans.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from benchmarks.record import write
from medssl import stages
from medssl.data.loading.cache import VolumeCache
from medssl.data.manifest.cohort import Cohort
from medssl.data.sources.bids import scan_folder, write_manifest
from medssl.data.volumes.volume import read_volume, write_volume
from medssl.features.embed import embed_cohort
from medssl.runs.network import network_of

TRAINED, SITE, REPEATS = 60, "IXI-HH", 5


def inverted(x: np.ndarray) -> np.ndarray:
    """Bright and dark exchanged inside the brain."""
    return np.where(x > 0, x.max() + 1 - x, 0)


def with_skull(x: np.ndarray) -> np.ndarray:
    """A bright, noisy shell around the brain, and air that is not 0."""
    rng = np.random.default_rng(0)
    brain = ndimage.binary_fill_holes(x > 0)
    shell = ndimage.binary_dilation(brain, iterations=3) & ~ndimage.binary_dilation(brain, iterations=1)
    air = rng.integers(1, 8, x.shape)
    return np.where(brain, x, np.where(shell, x.max() * rng.uniform(0.6, 1.0, x.shape), air))


ALTERED: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "inverted": inverted,
    "skull and air": with_skull,
    "turned by 90 degrees": lambda x: np.rot90(x, axes=(1, 2)),
    "upside down": lambda x: x[:, :, ::-1],
    "left and right exchanged": lambda x: x[::-1],
    "lower half missing": lambda x: np.where(np.arange(x.shape[2])[None, None] < x.shape[2] // 2, 0, x),
    "smoothed by 14 mm": lambda x: np.where(x > 0, ndimage.gaussian_filter(x.astype(float), 14 / 2.355 / 4), 0),
}


def manifest_of(table: Any, rows: np.ndarray, path: Path) -> Path:
    """A manifest of some rows, without a split."""
    part = table.iloc[rows].drop(columns=["manifest", "row", "weight", "subject", "split"])
    return write_manifest(part, path)


def altered(table: Any, rows: np.ndarray, name: str, out: Path) -> Path:
    """Copies of scans after one change, and their manifest."""
    folder = out / name.replace(" ", "-")
    part = table.iloc[rows].copy()
    for k, image in enumerate(part["image"]):
        scan = read_volume(image)
        write_volume(folder / f"{k}.nii.gz", ALTERED[name](scan.data[0]).astype(np.float32), scan.affine)
    part["image"] = [str(folder / f"{k}.nii.gz") for k in range(len(part))]
    return manifest_of(part, np.arange(len(part)), out / f"{folder.name}.csv")


def line_of(run: Path, manifest: Path, out: Path) -> dict[str, Any]:
    """Numbers of one set of scans."""
    table = stages.embed(run, manifest, out / f"{manifest.stem}-features.csv", progress=False)
    likeness = network_of(run, False).likeness
    assert likeness is not None
    unlike = table.meta["unlike"].to_numpy(float)
    return {
        "n": len(table),
        "median": float(np.median(unlike)),
        "beyond_95": float((unlike > 0.95).mean()),
        "features_only": int((likeness.far(table.values) > likeness.limits[-1]).sum()),
        "said": [str(sentence) for sentence in table.provenance.get("unlike", [])],
    }


def short(sentence: str) -> str:
    """A sentence up to its first colon; a bracket that is open there becomes a comma.

    >>> short("4 of 9 scans look unlike (head turned: row 2); look"), short("3 of 9 lie off (1 is usual), none far: so")
    ('4 of 9 scans look unlike, head turned', '3 of 9 lie off (1 is usual), none far')
    """
    begin = sentence.split(": ")[0]
    before, bracket, behind = begin.rpartition(" (")
    return f"{before}, {behind}" if bracket and ")" not in behind else begin


def cost(run: Path, manifest: Path, out: Path) -> tuple[float, float]:
    """Milliseconds per cached scan without and with the comparison, medians of alternating runs."""
    network, cohort = network_of(run, False), Cohort.read(manifest)
    cache = VolumeCache(network.cache, dtype=network.cache_dtype)
    times: dict[bool, list[float]] = {False: [], True: []}
    for k in range(REPEATS + 1):
        for look in (False, True):
            begin = time.perf_counter()
            embed_cohort(
                network.encoder,
                cohort,
                network.preprocessing,
                out / f"cost-{k}-{look}.csv",
                provenance={"run": k, "look": look},
                clean=network.clean,
                cache=cache,
                progress=False,
                likeness=network.likeness if look else None,
            )
            times[look].append((time.perf_counter() - begin) / len(cohort.table) * 1e3)
    return float(np.median(times[False][1:])), float(np.median(times[True][1:]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("MEDSSL_REAL_DATA"))
    parser.add_argument("--out", type=Path, default=Path("likeness-benchmark"))
    parser.add_argument("--epochs", type=int, default=4)
    options = parser.parse_args()
    if options.data is None:
        parser.error("give --data FOLDER or set MEDSSL_REAL_DATA")
    options.out.mkdir(parents=True, exist_ok=True)
    whole = write_manifest(scan_folder(Path(options.data) / "brains4mm"), options.out / "manifest.csv")
    table = Cohort.read(whole).table
    ixi = np.random.default_rng(0).permutation(np.flatnonzero(table["site"] == SITE))
    train = manifest_of(table, ixi[:TRAINED], options.out / "train.csv")
    run = options.out / "run"
    if not (run / "encoder.safetensors").is_file():
        changes = [f"data.manifest={train.resolve()}", f"data.cache={(options.out / 'cache').resolve()}"]
        changes += [f"output={run}", f"trainer.epochs={options.epochs}", "monitors.every=0"]
        stages.pretrain("demo", *changes, progress=False)
    sets = {
        "IXI, trained on": train,
        "IXI, other people": manifest_of(table, ixi[TRAINED:], options.out / "others.csv"),
        "Novosibirsk": manifest_of(table, np.flatnonzero(table["site"] != SITE), options.out / "novosibirsk.csv"),
    }
    sets |= {name: altered(table, ixi[TRAINED:], name, options.out) for name in ALTERED}
    found = {name: line_of(run, path, options.out) for name, path in sets.items()}
    plain, looked = cost(run, sets["IXI, other people"], options.out)
    lines = [
        f"Encoder of the demo's recipe, {options.epochs} epochs on {TRAINED} people of IXI at 4 mm.\n",
        "| scans | n | median unlike | share > 0.95 | named by features only | what is said |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in found.items():
        said = "; ".join(short(sentence) for sentence in row["said"])
        lines.append(
            f"| {name} | {row['n']} | {row['median']:.3f} | {row['beyond_95']:.2f} | {row['features_only']} "
            f"| {said or '-'} |"
        )
    lines.append(
        f"\nEmbedding a cached scan takes {plain:.1f} ms without and {looked:.1f} ms with the comparison "
        f"(x {looked / plain:.2f}; medians of {REPEATS} alternating runs)."
    )
    content = {"epochs": options.epochs, "trained_on": TRAINED, "sets": found, "ms_plain": plain, "ms_looked": looked}
    print(write("likeness", content, "\n".join(lines)))


if __name__ == "__main__":
    main()
