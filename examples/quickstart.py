"""From nothing to a scored encoder in one file: ``python examples/quickstart.py [FOLDER]`` (two minutes on 2 cores)."""

import sys
from pathlib import Path

import medssl

out = Path(sys.argv[1] if len(sys.argv) > 1 else "quickstart")
manifest = medssl.synthetic_cohort(out / "cohort", subjects=80, sites=8, seed=0, spacing=8.0)

run = medssl.pretrain(
    "exponential",  # L_exp; any name that `medssl methods` lists
    f"data.manifest={manifest}",
    f"output={out / 'run'}",
    "data.preprocessing={spacing: [8, 8, 8], shape: [24, 24, 24]}",  # coarse, for speed
    *("data.batch_size=16", "trainer.epochs=120", "trainer.threads=1", "trainer.precision=32-true", "monitors.every=0"),
    "encoder={name: resnet18, width: 8, depth: [1, 1, 1], norm: group, stem: small}",
    page=False,  # the report is written below, with the scores
)
scores = medssl.score(run)  # embeds, fits the probes on training rows, tests on known and unseen sites
print(scores.markdown())
print("report:", medssl.write_report(run))

encoder = medssl.load_encoder(run / "encoder.safetensors")  # a plain torch module: volume -> Features
print(sum(p.numel() for p in encoder.parameters()), "parameters")
