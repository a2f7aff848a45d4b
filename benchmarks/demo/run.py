"""Does the demo's encoder beat its references on unseen sites? The demo itself, over several seeds.

python -m benchmarks.demo.run --seeds 0 1 2 --out /tmp/demo
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from pathlib import Path

from benchmarks.record import cell, write
from medssl import stages

ROWS = ("constant", "age_oracle", "site_median", "ridge_voxels", "untrained")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("demo-benchmark"))
    options = parser.parse_args()
    runs = []
    for seed in options.seeds:
        began = time.perf_counter()
        scores, _ = stages.demo(options.out / f"seed{seed}", seed=seed)
        seconds = time.perf_counter() - began
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        runs.append({"seed": seed, "seconds": seconds, "peak_gib": peak, "scores": scores.to_dict()})
    lines = [
        "| seed | row | MAE internal | MAE external | site BAcc | challenge |",
        "|---|---|---|---|---|---|",
    ]
    for run in runs:
        for name, row in [
            ("encoder", run["scores"]),
            *((r, run["scores"]["references"].get(r, {})) for r in ROWS),
        ]:
            cells = " | ".join(cell(row, k) for k in ("mae_internal", "mae_external", "site_bacc", "challenge"))
            lines.append(f"| {run['seed']} | {name} | {cells} |")
    lines.append("")
    for run in runs:
        gain = run["scores"]["differences"]["untrained"]["mae_external"]
        lines.append(
            f"Seed {run['seed']}: encoder minus untrained {gain['difference']:.2f} years {span(gain['ci'])}, sites "
            f"resampled {span(gain['ci_sites'])}; {run['seconds']:.0f} s, peak {run['peak_gib']:.2f} GiB."
        )
    errors = [run["scores"]["mae_external"] for run in runs]
    middle = statistics.median(errors)
    lines.append(f"\nExternal MAE over seeds: median {middle:.2f}, {min(errors):.2f} to {max(errors):.2f}.")
    print(write("demo", {"runs": runs}, "\n".join(lines)))


def span(pair: list[float]) -> str:
    return f"[{pair[0]:.2f}, {pair[1]:.2f}]"


if __name__ == "__main__":
    main()
