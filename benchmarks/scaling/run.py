"""What bounds 1, 8 and 64 GPUs on 10k and 100k scans? CPU-side numbers of this machine, the rest as stated.

python -m benchmarks.scaling.run [--gpu-ms 30] [--cores 8] [--batch 32] [--scan MY.nii.gz] [--json FILE | --record]

Numbers are marked: measured here, given on the command line, chosen (of the recipe), or ASSUMED (replace
it by yours). CPU-side numbers are core-seconds: the plan divides them by the cores.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from benchmarks.record import write
from benchmarks.scaling.measure import Measured, measure
from benchmarks.scaling.plan import Inputs, Plan, gather_bytes, plan, reduce_bytes
from medssl.files import write_atomic

GPU_MS = 30.0
"""Forward and backward of both views of one scan through ResNet-18 at 121 x 145 x 121: an assumption, not a record."""
OPTIONS: dict[str, tuple[str, float, str]] = {
    "decode-ms": ("decode_s", 1e-3, "one .nii.gz into the cache, one core"),
    "read-ms": ("read_s", 1e-3, "one scan from the warm cache, one core"),
    "view-ms": ("view_s", 1e-3, "one view, one core"),
    "hand-ms": ("hand_s", 1e-3, "one view out of a worker process, in the process that trains"),
    "gpu-ms": ("net_s", 1e-3, "forward and backward of all views of one scan, one GPU"),
    "gpu-view-ms": ("view_gpu_s", 1e-3, "one view on the GPU, where views are made there"),
    "views": ("views", 1, "V"),
    "batch": ("batch", 1, "B, scans per GPU"),
    "embedding": ("embedding", 1, "D"),
    "parameters-m": ("parameters", 1e6, "P in millions"),
    "cores": ("cores", 1, "cores per GPU"),
    "node": ("node", 1, "GPUs per node"),
    "itemsize": ("itemsize", 1, "bytes per cached voxel: 4, or 2 for float16"),
    "voxels": ("voxels", 1, "voxels of a cached scan"),
    "memory-gb": ("memory", 1e9, "per node, for cached files"),
    "disk-gb": ("disk", 1e9, "GB/s per node"),
    "link-gb": ("link", 1e9, "GB/s per GPU inside a node"),
    "wire-gb": ("wire", 1e9, "GB/s per node between nodes"),
}
CHOICES = ("views", "batch", "embedding", "itemsize", "voxels")
"""Of the recipe: their defaults are choices, not assumptions about a machine."""
WHOLE = ("views", "batch", "embedding", "cores", "node", "itemsize", "voxels")


def main(arguments: list[str] | None = None) -> str:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, (_, _, meaning) in OPTIONS.items():
        parser.add_argument(f"--{name}", type=float, help=meaning)
    parser.add_argument("--gpus", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--scans", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--scan", type=Path, help="a .nii.gz of yours to decode instead of a made one")
    parser.add_argument("--no-network", action="store_true", help="do not time the network here")
    parser.add_argument("--json", type=Path, help="also write inputs and plans here")
    parser.add_argument("--record", action="store_true", help="write a dated record into benchmarks/results")
    options = vars(parser.parse_args(arguments))
    given = {n: options[n.replace("-", "_")] for n in OPTIONS if options[n.replace("-", "_")] is not None}
    needed = {"decode-ms", "read-ms", "view-ms"} - set(given)
    found = measure(options["scan"], network=not options["no_network"]) if needed else None
    inputs, source = fill(given, found)
    plans = [plan(inputs, gpus, scans) for scans in options["scans"] for gpus in options["gpus"]]
    text = report(inputs, source, plans, found)
    print(text)
    content = {"inputs": asdict(inputs), "source": source, "plans": [asdict(p) for p in plans]}
    if options["record"]:
        print(write("scaling", content, text))
    if options["json"]:
        write_atomic(options["json"], json.dumps(content, indent=1) + "\n")
    return text


def fill(given: dict[str, float], found: Measured | None) -> tuple[Inputs, dict[str, str]]:
    """Inputs of the plan and where each comes from: given, measured, chosen or ASSUMED."""
    values: dict[str, float] = {"net_s": GPU_MS / 1e3}
    source: dict[str, str] = {}
    if found is not None:
        values |= {name: getattr(found, name) for name in ("decode_s", "read_s", "view_s", "hand_s", "raw_bytes")}
        source |= dict.fromkeys(("decode_s", "read_s", "view_s", "hand_s", "raw_bytes"), "measured")
        if found.parameters:
            values["parameters"], source["parameters"] = found.parameters, "measured"
        if found.net_s is not None and "CPU" not in found.device:
            values["net_s"], source["net_s"] = found.net_s, f"measured on {found.device}"
    for option, number in given.items():
        name, unit, _ = OPTIONS[option]
        values[name] = int(number) if name in WHOLE else number * unit
        source[name] = "given"
    inputs = Inputs(**values)  # type: ignore[arg-type]
    return inputs, {n: source.get(n, "chosen" if n in CHOICES else "ASSUMED") for n in asdict(inputs)}


def report(inputs: Inputs, source: dict[str, str], plans: list[Plan], found: Measured | None) -> str:
    """Inputs with their origin, then the table."""
    lines = ["| input | value | origin |", "|---|---|---|"]
    for option, (name, unit, meaning) in OPTIONS.items():
        value = getattr(inputs, name)
        if value is not None:
            lines.append(f"| `--{option}` {meaning} | {value / unit:.4g} | {source[name]} |")
    lines += ["", *_network(inputs, source, found), "", *table(inputs, plans)]
    return "\n".join(lines)


def _network(inputs: Inputs, source: dict[str, str], found: Measured | None) -> list[str]:
    if found is None or not found.flops:
        return []
    work = 3 * inputs.views * found.flops
    lines = [
        f"ResNet-18: {found.parameters / 1e6:.1f} M parameters, {work / 1e12:.2f} TFLOP per scan (forward and "
        f"backward of {inputs.views} views), so {inputs.net_s * 1e3:.4g} ms ({source['net_s']}) stand for "
        f"{work / inputs.net_s / 1e12:.0f} TFLOP/s on the GPU."
    ]
    if found.net_s is not None and "CPU" in found.device:
        lines.append(f"Stand-in, no GPU here: the same on one CPU core takes {found.net_s:.1f} s per scan (measured).")
    return lines


def table(inputs: Inputs, plans: list[Plan]) -> list[str]:
    """One row per number of GPUs and scans; times of a step in ms."""
    lines = [
        f"One cached scan: {inputs.scan_bytes / 1e6:.2f} MB. Times of one step of {inputs.batch} scans per GPU in ms.",
        "",
        "| scans | GPUs | cache GB | fill h | read | views | hand-over | disk | network | all-gather | all-reduce left "
        "| **bound** | step | scans/s | epoch min | steps | cores per GPU to keep up | gathered MB | reduced MB |",
        "|" + "---|" * 19,
    ]
    for p in plans:
        gathered = gather_bytes(p.gpus, inputs.batch, inputs.views, inputs.embedding) / 1e6
        cells = [f"{p.scans:,}", str(p.gpus), f"{p.scans * inputs.scan_bytes / 1e9:.0f}", f"{p.build / 3600:.2f}"]
        cells += [f"{1e3 * t:.3g}" for t in (p.read, p.views, p.hand, p.disk, p.net, p.gather, p.reduce)]
        cells += [f"**{p.bound}**", f"{1e3 * p.step:.0f}", f"{p.rate:.0f}", f"{p.epoch / 60:.1f}", str(p.steps)]
        cells += [str(p.cores_needed), f"{gathered:.2f}", f"{reduce_bytes(p.gpus, inputs.parameters) / 1e6:.0f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


if __name__ == "__main__":
    main()
