"""How fast is medssl beside its peers? Every figure is measured next to the peer, in one process, as a ratio.

python -m benchmarks.speed [--only views,loader,...] [--quick] [--json FILE]

Without --quick the result becomes a dated record in benchmarks/results. Peers that are not installed
(pip install '.[bench]') leave out their ratio and say so.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import time
from pathlib import Path
from typing import Any

from benchmarks.record import RESULTS, write
from benchmarks.speed.timing import TARGETS, Part, margin
from medssl.files import write_atomic

PARTS = ("views", "loader", "step", "losses", "gradcache", "embed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(PARTS), help=f"some of {','.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help="smaller and fewer rounds: under 5 minutes in all")
    parser.add_argument("--json", type=Path, help="also write the content of the record here")
    options = parser.parse_args()
    chosen = [name.strip() for name in options.only.split(",") if name.strip()]
    if unknown := [name for name in chosen if name not in PARTS]:
        parser.error(f"there is no part {unknown[0]!r}; parts: {', '.join(PARTS)}")
    found: dict[str, Part] = {}
    seconds: dict[str, float] = {}
    for name in chosen:
        print(f"{name} ...", flush=True)
        began = time.perf_counter()
        found[name] = importlib.import_module(f"benchmarks.speed.{name}").measure(options.quick)
        seconds[name] = time.perf_counter() - began
        print(markdown(found[name]), flush=True)
    content = content_of(found, seconds, options.quick)
    if options.json:
        write_atomic(options.json, json.dumps(content, indent=1) + "\n")
    if not options.quick and chosen == list(PARTS):
        path = write("speed", content, "\n".join(markdown(part) for part in found.values()))
        write_atomic(RESULTS / f"{path.stem}.png", figure(found))
        print(path)


def content_of(found: dict[str, Part], seconds: dict[str, float], quick: bool) -> dict[str, Any]:
    """All ratios in one mapping, and every part with its rows."""
    ratios = {key: value for part in found.values() for key, value in part.ratios.items()}
    parts = {name: {**vars(part), "seconds": seconds[name]} for name, part in found.items()}
    return {"quick": quick, "load_average": os.getloadavg()[0], "ratios": ratios, "parts": parts}


def markdown(part: Part) -> str:
    """Ratios, the table behind them, and notes."""
    lines = [f"## {part.title}", ""]
    lines += ["| ratio | value | target | meaning |", "|---|---|---|---|"]
    for key, value in part.ratios.items():
        lines.append(f"| `{key}` | {_cell(value)} | {_target(key, value)} | {part.meaning[key]} |")
    tables: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in part.rows:
        tables.setdefault(tuple(row), []).append(row)
    for heads, rows in tables.items():
        lines += ["", "| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
        lines += ["| " + " | ".join(_cell(row[head]) for head in heads) + " |" for row in rows]
    return "\n".join([*lines, "", *part.notes, ""])


def _target(key: str, value: float) -> str:
    better = margin(key, value)
    if better is None:
        return ""
    return " ".join([TARGETS[key][0], _cell(TARGETS[key][1]), *([] if better >= 1 else ["(missed)"])])


def _cell(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def figure(found: dict[str, Part]) -> bytes:
    """How many times better than its target each ratio is, on a logarithmic axis; 1 is the target."""
    import io

    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    ratios = {k: v for part in found.values() for k, v in part.ratios.items() if k in TARGETS}
    names, values = list(ratios)[::-1], list(ratios.values())[::-1]
    better = [margin(key, value) or 0.0 for key, value in zip(names, values, strict=True)]
    drawn, axes = plt.subplots(figsize=(8, 0.3 * len(names) + 1))
    axes.barh(names, [b - 1 for b in better], left=1, color=["#35618f" if b >= 1 else "#c8692c" for b in better])
    for place, (key, value, b) in enumerate(zip(names, values, better, strict=True)):
        told = f" {_cell(value)}, {TARGETS[key][0]} {_cell(TARGETS[key][1])}"
        axes.text(max(b, 1.0), place, told, va="center", fontsize=8)
    axes.set_xscale("log")
    axes.set_xlim(right=3 * max(better))
    axes.margins(y=0.01)
    axes.axvline(1.0, color="black", linewidth=0.8)
    axes.set_xlabel("times better than the target (value, target); orange: missed")
    drawn.tight_layout()
    file = io.BytesIO()
    drawn.savefig(file, format="png", dpi=120)
    plt.close(drawn)
    return file.getvalue()


if __name__ == "__main__":
    main()
