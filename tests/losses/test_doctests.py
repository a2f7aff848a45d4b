from __future__ import annotations

import doctest
from importlib import import_module

import pytest

NAMES = {
    "medssl.errors": 1,
    "medssl.kernels": 4,
    "medssl.losses.adversarial": 4,
    "medssl.losses.cluster": 2,
    "medssl.losses.contrastive": 6,
    "medssl.losses.fair": 1,
    "medssl.losses.kernel": 5,
    "medssl.losses.lse": 4,
    "medssl.losses.pairs": 1,
    "medssl.losses.reconstruct": 3,
    "medssl.losses.redundancy": 2,
    "medssl.losses.uniformity": 2,
    "medssl.memory.assignments": 1,
    "medssl.memory.bank": 1,
}


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_example_prints_its_number(name):
    module = import_module(name)
    examples = [t for t in doctest.DocTestFinder().find(module, globs={**vars(module)}) if t.examples]
    results = [doctest.DocTestRunner().run(t) for t in examples]
    assert sum(r.failed for r in results) == 0
    assert len(examples) >= NAMES[name]
