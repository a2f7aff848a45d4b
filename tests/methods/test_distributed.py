"""The common checks with two processes: every name of the catalogue, and every regulariser, passes them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.methods.ranks import CASES, TERMS, trace
from tests.methods.variants import VARIANTS
from tests.training.ranks import fast_pair

every_case = pytest.mark.parametrize(("name", "kind"), CASES)


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    out = fast_pair(tmp_path_factory)
    return [torch.load(out / f"methods-rank{rank}.pt", weights_only=True) for rank in (0, 1)]


@every_case
def test_two_processes_compute_loss_and_gradients_of_one_with_the_joint_batch(name, kind, ranks):
    alone, pair = trace(name, kind), [r[f"{name}-{kind}"] for r in ranks]
    for step, expected in enumerate(alone["steps"]):
        assert any(k.startswith("gradient") for k in expected)
        for key, value in expected.items():
            for rank in pair:
                torch.testing.assert_close(rank["steps"][step][key], value, rtol=1e-6, atol=1e-6, msg=f"{step} {key}")
    for key, value in alone["state"].items():
        torch.testing.assert_close(pair[0]["state"][key], value, rtol=1e-6, atol=1e-6, equal_nan=True)


@every_case
def test_memory_and_weights_of_two_processes_agree_bit_for_bit(name, kind, ranks):
    first, second = (r[f"{name}-{kind}"]["state"] for r in ranks)
    assert first.keys() == second.keys()
    for key, value in first.items():
        assert torch.equal(value.nan_to_num(), second[key].nan_to_num()), key


def test_the_cases_hold_what_they_promise():
    kinds = {kind for _, kind in CASES}
    assert kinds >= {"plain", "missing", "blocks", "terms", "batch_norm", *TERMS}
    exempt = {f"{variant.name}-{variant.label}" for variant in VARIANTS.values() if variant.alone}
    assert {f"{name}-{kind}" for name, kind in CASES} >= set(VARIANTS) - exempt
    assert exempt == {"threshold-isbi_code"}, "what the published L_thr code counts"
    assert {name for name, kind in CASES if kind == "terms"} >= {"simclr", "moco", "y_aware"}
    assert {name for name, kind in CASES if kind == "missing"} >= {"y_aware", "threshold", "exponential", "l1_age"}
