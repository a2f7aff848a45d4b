"""Which method keeps age and drops the site? A preset of `medssl benchmark openbhb`, put on record.

python -m benchmarks.openbhb.run --preset synthetic --out /tmp/b [--quick]
python -m benchmarks.openbhb.run --preset roi --data regions.csv --columns '*_thickness' --out /tmp/b
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.record import RESULTS, write
from medssl.experiments.benchmark.run import benchmark
from medssl.files import write_atomic


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="synthetic")
    parser.add_argument("--out", type=Path, default=Path("openbhb-benchmark"))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--columns", nargs="*", default=())
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--jobs", type=int)
    parser.add_argument("--note", default="", help="A sentence for the end of the record.")
    options = parser.parse_args()
    record = benchmark(
        options.preset,
        options.out,
        data=options.data,
        columns=options.columns,
        quick=options.quick,
        seeds=options.seeds,
        jobs=options.jobs,
    )
    name = f"openbhb-{options.preset}{'-quick' if options.quick else ''}"
    text = record["markdown"] + (f"{options.note}\n" if options.note else "")
    content = {key: record[key] for key in ("preset", "seconds", "lines")} | {"note": options.note}
    path = write(name, content, text)
    for figure in record["figures"]:
        write_atomic(RESULTS / f"{path.stem}-{Path(figure).stem}.png", (options.out / figure).read_bytes())
    print(path)


if __name__ == "__main__":
    main()
