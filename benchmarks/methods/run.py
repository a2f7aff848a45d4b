"""Does every method learn? Frozen features after a short training against the same network untrained.

python -m benchmarks.methods.run --out /tmp/methods [--only simclr mae] [--epochs N]

A synthetic cohort at 8 mm (300 people, 20 scanners, 4 of them unseen), reduced encoders, otherwise each recipe as it
is, epochs included. Recorded: external and internal age MAE with the paired bootstrap of the difference, and site
accuracy.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from benchmarks.record import write
from medssl import stages
from medssl.recipe.catalog import CATALOG

SMALL = [
    "data.preprocessing={spacing: [8, 8, 8], shape: [24, 24, 24]}",
    "data.batch_size=32",
    "monitors.every=0",
]
CNN = "encoder={name: resnet18, width: 16, depth: [1, 1, 1], norm: group, stem: small}"
VIT = "encoder={name: vit, patch: 4, width: 96, depth: 4, heads: 4}"


def learn(name: str, manifest: Path, out: Path, epochs: int | None = None, seed: int = 0) -> dict[str, Any]:
    """Train one method briefly and score it; {"seconds", "scores"}."""
    began = time.perf_counter()
    run = out / f"{name}-{seed}"
    if not (run / "encoder.safetensors").is_file():
        changes = [
            *SMALL,
            VIT if name == "mae" else CNN,
            f"data.manifest={manifest}",
            f"data.cache={out / 'cache'}",
        ]
        changes += [f"trainer.epochs={epochs}"] if epochs else []
        stages.pretrain(name, *changes, f"output={run}", f"trainer.seed={seed}")
    return {"seconds": time.perf_counter() - began, "scores": stages.score(run, resamples=2000).to_dict()}


def cohort(out: Path) -> Path:
    """The cohort that all methods share."""
    return stages.synthetic_cohort(out / "cohort", subjects=300, sites=20, seed=5, spacing=8.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("methods-benchmark"))
    parser.add_argument("--epochs", type=int, help="default: each recipe's own")
    parser.add_argument("--only", nargs="+", default=list(CATALOG), choices=list(CATALOG))
    options = parser.parse_args()
    manifest = cohort(options.out)
    found = {name: learn(name, manifest, options.out, options.epochs) for name in options.only}
    lines = [
        f"{options.epochs or 'Own'} epochs, 300 people at 8 mm; MAE in years; difference: encoder minus untrained, "
        "external.\n",
        "| method | MAE internal | MAE external | untrained | difference [95 %] | site BAcc (untrained) | s |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, result in found.items():
        scores = result["scores"]
        plain, gain = scores["references"]["untrained"], scores["differences"]["untrained"]["mae_external"]
        lines.append(
            f"| {name} | {scores['mae_internal']:.2f} | {scores['mae_external']:.2f} | {plain['mae_external']:.2f} | "
            f"{gain['difference']:.2f} [{gain['ci'][0]:.2f}, {gain['ci'][1]:.2f}] | {scores['site_bacc']:.2f} "
            f"({plain['site_bacc']:.2f}) | {result['seconds']:.0f} |"
        )
    voxels = next(iter(found.values()))["scores"]["references"]["ridge_voxels"]
    lines.append(f"\nRidge on voxels: external {voxels['mae_external']:.2f}, site BAcc {voxels['site_bacc']:.2f}.")
    print(write("methods", {"methods": found, "epochs": options.epochs}, "\n".join(lines)))


if __name__ == "__main__":
    main()
