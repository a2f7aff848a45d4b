"""What do 163 real scans give? L_exp, y-aware and l1 beside ridge on voxels and the untrained encoder.

python -m benchmarks.real_scans.run --data FOLDER --out /tmp/real [--epochs 40] [--folds 3] [--only NAME ...]

Pre-training never reads a held-out person. Every arm is the same recipe (configs/pretrain/demo.yaml).
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.record import write
from medssl import stages
from medssl.data.manifest.cohort import Cohort
from medssl.data.manifest.folds import subject_folds
from medssl.data.sources.bids import scan_folder, write_manifest
from medssl.evaluation.metrics.bootstrap import interval, regression_draws
from medssl.evaluation.metrics.regression import mae, r2

ARMS = {
    "exponential": ("real",),
    "y_aware": ("real",),
    "l1_age": ("real",),
    "exponential_synthetic": ("synthetic",),
    "exponential_both": ("real", "synthetic"),
}
SITE = "IXI-HH"


def pretrained(arm: str, sources: tuple[str, ...], real: Path, synthetic: Path, out: Path, epochs: int) -> Path:
    """Run one arm; a finished run is kept."""
    run = out / arm
    if not (run / "encoder.safetensors").is_file():
        name = arm.split("_syn")[0].split("_both")[0]
        paths = [str({"real": real, "synthetic": synthetic}[s]) for s in sources]
        manifests = ", ".join("{path: " + p + "}" for p in paths)
        changes = [
            f"data.manifests=[{manifests}]",
            f"output={run}",
            f"data.cache={out.parent / 'cache'}",
            f"trainer.epochs={epochs if 'synthetic' not in sources else max(8, epochs // 3)}",
            "monitors.every=0",
        ]
        method = f"method={name}" if name == "l1_age" else f"method.name={name}"
        stages.pretrain("demo", method, *changes)
    return run


def table_of(run: Path, manifest: Path) -> Any:
    """Features of the real manifest from a run (which may have been trained on others)."""
    out = run / f"features-{manifest.stem}.csv"
    stages.embed(run, [str(manifest)], out)
    return stages.score(out, run / f"score-{manifest.stem}")


def held_out(scores: Any, rows: str, split: str) -> pd.DataFrame:
    """True and predicted ages of one features row."""
    found = scores.predictions
    return found[(found["features"] == rows) & (found["split"] == split) & found["age"].notna()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("MEDSSL_REAL_DATA"))
    parser.add_argument("--out", type=Path, default=Path("real-benchmark"))
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--subjects", type=int, default=480, help="people of the synthetic cohort")
    parser.add_argument("--only", nargs="+", default=list(ARMS), choices=list(ARMS))
    options = parser.parse_args()
    if options.data is None:
        parser.error("give --data FOLDER or set MEDSSL_REAL_DATA")
    options.out.mkdir(parents=True, exist_ok=True)
    whole = options.out / "manifest.csv"
    write_manifest(scan_folder(Path(options.data) / "brains4mm"), whole)
    table = Cohort.read(whole).table
    synthetic = stages.synthetic_cohort(options.out / "synthetic", subjects=options.subjects, sites=24, seed=0)
    ixi = np.flatnonzero(table["site"] == SITE)
    folds = subject_folds(table["subject"].to_numpy()[ixi], n=options.folds, seed=0)
    pooled: dict[str, list[pd.DataFrame]] = {}
    for k, (_, test) in enumerate(folds):
        manifest = options.out / f"fold{k}.csv"
        fold = table.drop(columns=["manifest", "row", "weight", "subject"]).assign(split="train")
        fold.loc[ixi[test], "split"] = "internal_test"
        write_manifest(fold, manifest)
        for arm in options.only:
            home = options.out / f"fold{k}"
            shared = options.out / "shared" if ARMS[arm] == ("synthetic",) else home  # reads no fold
            scores = table_of(pretrained(arm, ARMS[arm], manifest, synthetic, shared, options.epochs), manifest)
            pooled.setdefault(arm, []).append(held_out(scores, "encoder", "internal_test"))
            for reference in ("ridge_voxels", "untrained", "constant"):
                if len(pooled.setdefault(reference, [])) <= k:
                    pooled[reference].append(held_out(scores, reference, "internal_test"))
    across = across_sites(table, options, synthetic)
    lines = [
        f"Within IXI: {options.folds} folds over people, pooled; {options.epochs} epochs; ages in years.\n",
        "| features | n | MAE [95 %] | R2 |",
        "|---|---|---|---|",
    ]
    content: dict[str, Any] = {"within": {}, "across": across, "epochs": options.epochs}
    for name, parts in pooled.items():
        frame = pd.concat(parts)
        true, guess = frame["age"].to_numpy(float), frame["predicted"].to_numpy(float)
        draws = regression_draws(true, guess, frame["participant_id"].to_numpy(str), resamples=2000, seed=0)
        low, high = interval(draws["mae"]) or (np.nan, np.nan)
        error, explained = mae(true, guess), r2(true, guess)
        content["within"][name] = {"n": len(frame), "mae": error, "ci": [low, high], "r2": explained}
        lines.append(f"| {name} | {len(frame)} | {error:.2f} [{low:.2f}, {high:.2f}] | {explained:.2f} |")
    lines += [
        "",
        "Trained on IXI, tested on ds002748 (ages 19 to 55; never R2):\n",
        "| features | MAE |",
        "|---|---|",
    ]
    lines += [f"| {name} | {value:.2f} |" for name, value in across.items()]
    print(write("real-scans", content, "\n".join(lines)))


def across_sites(table: pd.DataFrame, options: argparse.Namespace, synthetic: Path) -> dict[str, float]:
    """External MAE on the other cohort: encoder (L_exp on IXI), and the references."""
    manifest = options.out / "across.csv"
    moved = table.drop(columns=["manifest", "row", "weight", "subject"]).assign(split="train")
    moved.loc[table["site"] != SITE, "split"] = "external_test"
    write_manifest(moved, manifest)
    out: dict[str, float] = {}
    for arm in [a for a in ("exponential", "y_aware", "exponential_both") if a in options.only]:
        run = pretrained(arm, ARMS[arm], manifest, synthetic, options.out / "across", options.epochs)
        scores = table_of(run, manifest)
        out[arm] = float(scores.to_dict()["mae_external"])
        for name in ("ridge_voxels", "untrained", "constant"):
            out[name] = float(scores.to_dict()["references"][name]["mae_external"])
        stages.report(run)
    return out


if __name__ == "__main__":
    main()
