"""From nothing to a scored encoder in one file: ``python examples/quickstart.py [FOLDER]`` (one to two minutes)."""

import sys
from pathlib import Path

import medssl

out = Path(sys.argv[1] if len(sys.argv) > 1 else "quickstart")
manifest = medssl.synthetic_cohort(out / "cohort", subjects=60, sites=6, seed=0)

run = medssl.pretrain(
    "exponential",  # L_exp; any name that `medssl methods` lists
    f"data.manifest={manifest}",
    f"output={out / 'run'}",
    "encoder.width=8",
    "trainer.epochs=3",  # 3 steps show the way and learn nothing, so ridge wins here; `medssl demo` learns
)
scores = medssl.score(run)  # embeds, fits the probes on training rows, tests on known and unseen sites
print(scores.markdown())
print("report:", medssl.write_report(run))

encoder = medssl.load_encoder(run / "encoder.safetensors")  # a plain torch module: volume -> Features
print(sum(p.numel() for p in encoder.parameters()), "parameters")
