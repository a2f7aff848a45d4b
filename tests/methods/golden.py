"""Write tests/golden/losses.json and variants.json anew: ``python -m tests.methods.golden``."""

from __future__ import annotations

import json

from medssl.recipe.catalog import CATALOG
from tests.methods.bench import Bench
from tests.methods.test_common import GOLDEN
from tests.methods.test_common_laws import GOLDEN_VARIANTS, three_steps
from tests.methods.variants import VARIANTS


def main() -> None:
    record = {}
    for name in CATALOG:
        bench = Bench(name)
        bench.start()
        record[name] = bench.train(3)
    GOLDEN.write_text(json.dumps(record, indent=1) + "\n")
    variants = {key: three_steps(key) for key in VARIANTS}
    GOLDEN_VARIANTS.write_text(json.dumps(variants, indent=1) + "\n")


if __name__ == "__main__":
    main()
