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
from benchmarks.speed.timing import Part
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
    lines += ["| ratio | value | meaning |", "|---|---|---|"]
    lines += [f"| `{key}` | {_cell(value)} | {part.meaning[key]} |" for key, value in part.ratios.items()]
    tables: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in part.rows:
        tables.setdefault(tuple(row), []).append(row)
    for heads, rows in tables.items():
        lines += ["", "| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
        lines += ["| " + " | ".join(_cell(row[head]) for head in heads) + " |" for row in rows]
    return "\n".join([*lines, "", *part.notes, ""])


def _cell(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def figure(found: dict[str, Part]) -> bytes:
    """All ratios as bars on a logarithmic axis; 1 is the peer."""
    import io

    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    ratios = {key: value for part in found.values() for key, value in part.ratios.items()}
    drawn, axes = plt.subplots(figsize=(8, 0.32 * len(ratios) + 1))
    axes.barh(list(ratios)[::-1], list(ratios.values())[::-1], color="#35618f")
    for place, value in enumerate(list(ratios.values())[::-1]):
        axes.text(value, place, f" {_cell(value)}", va="center", fontsize=8)
    axes.set_xscale("log")
    axes.axvline(1.0, color="black", linewidth=0.8)
    axes.set_xlabel("ratio (what each means: see the table)")
    drawn.tight_layout()
    file = io.BytesIO()
    drawn.savefig(file, format="png", dpi=120)
    plt.close(drawn)
    return file.getvalue()


if __name__ == "__main__":
    main()
