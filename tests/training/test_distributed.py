"""Trainings on two processes give what one process gives with the joint batch, and continue each other's runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from medssl.training.hardware.launch import SafeFiles
from tests.methods.bench import SCANS
from tests.training.ranks import CASES, MORE, ODD, STEPS, cases_of, fast_pair, slow_pair, train_case

SHARDED = [case for case, asked in CASES.items() if asked.get("strategy") == "fsdp"]
slow = pytest.mark.slow
any_case = [pytest.param(c, marks=() if c in cases_of("fast") else slow) for c in CASES]


@pytest.fixture
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    case = request.node.callspec.params["case"]
    return fast_pair(tmp_path_factory) if case in cases_of("fast") else slow_pair(tmp_path_factory)


def load(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)


def assert_same(got: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], case: str) -> None:
    assert got.keys() == expected.keys()
    for key, value in expected.items():
        if CASES[case].get("optim") == "adamw" and key.endswith("qkv.bias"):
            continue  # the bias of keys has no effect and no gradient but rounding, which Adam makes steps of
        torch.testing.assert_close(got[key], value, rtol=1e-5, atol=1e-5, equal_nan=True, msg=key)


def rows(run: Path, name: str) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "logs" / f"{name}.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("case", any_case)
def test_two_processes_train_the_weights_and_memory_of_one_with_the_joint_batch(case: str, pair: Path):
    expected, first = load(pair / f"{case}-one.pt"), load(pair / f"{case}-two-rank0.pt")
    assert_same(first, expected, case)
    if case not in SHARDED:  # there the whole weights are put together on the first process alone
        second = load(pair / f"{case}-two-rank1.pt")
        for key, value in first.items():
            assert torch.equal(value.nan_to_num(), second[key].nan_to_num()), key


@pytest.mark.parametrize("case", any_case)
def test_the_run_is_written_once_with_the_numbers_of_the_joint_batch(case: str, pair: Path):
    one, two = (rows(pair / kind / case, "train") for kind in ("one", "two"))
    assert [r["step"] for r in two] == list(range(1, 2 * STEPS + 1))
    for name in ("loss", "loss_encoder", "loss_critic", "lr", "grad_norm", "chance"):
        if two[0].get(name) is not None:
            assert [r[name] for r in two] == pytest.approx([r[name] for r in one], rel=1e-4, abs=1e-5), name
    assert [r["step"] for r in rows(pair / "two" / case, "probe")] == [STEPS, 2 * STEPS]


@pytest.mark.parametrize("case", any_case)
def test_one_process_continues_the_run_of_two(case: str, pair: Path, tmp_path: Path):
    before = pair / "two" / case / "checkpoints" / "step-00000004.ckpt"
    assert_same(train_case(case, tmp_path, 1, before), load(pair / f"{case}-one.pt"), case)
    assert [r["step"] for r in rows(tmp_path, "train")] == [5, 6]


@pytest.mark.parametrize("case", [pytest.param(c, marks=() if c in cases_of("fast") else slow) for c in MORE])
def test_two_processes_continue_the_run_of_one(case: str, pair: Path):
    assert_same(load(pair / f"{case}-more-rank0.pt"), load(pair / f"{case}-one.pt"), case)


@pytest.mark.parametrize("case", ["simclr"])
def test_another_joint_batch_continues_at_the_same_scan_and_counts_on(case: str, pair: Path, tmp_path: Path):
    before = pair / "two" / case / "checkpoints" / "step-00000004.ckpt"
    train_case(case, tmp_path, 1, before, joint=4)
    found = rows(tmp_path, "train")
    left = (SCANS - 8) // 4  # of the second epoch, of which one batch of eight was seen
    assert [r["step"] for r in found] == list(range(5, 5 + left))
    assert {r["epoch"] for r in found} == {1}
    counted = SafeFiles().load_checkpoint(tmp_path / "checkpoints" / f"step-{4 + left:08d}.ckpt")["medssl"]
    assert counted.pop("monitor")["low"] >= 0
    assert counted == {"micro": 12, "prepared": 1, "done": 4 + left, "plan": {"joint": 4, "per_epoch": 6}}


def test_embedding_is_shared_out_and_joined_in_order(tmp_path_factory: pytest.TempPathFactory):
    out = fast_pair(tmp_path_factory)
    for rank in (0, 1):
        index, values = torch.load(out / f"odd-rank{rank}.pt", weights_only=True)
        assert index.tolist() == ODD.tolist()
        assert values[:, 0].tolist() == (2.0 * ODD).tolist()


@pytest.mark.slow
def test_clusters_agree_where_batch_norm_saw_other_scans_on_every_process(tmp_path_factory: pytest.TempPathFactory):
    out = slow_pair(tmp_path_factory)
    first, second = (load(out / f"deepcluster-batchnorm-two-rank{rank}.pt") for rank in (0, 1))
    assert not torch.equal(first["encoder.stem.1.running_mean"], second["encoder.stem.1.running_mean"])
    for key, value in first.items():
        assert torch.equal(value, second[key]) or "running" in key, key
    assert int(first["assigned.updates"]) == 3


@pytest.mark.slow
def test_a_loss_that_is_no_number_on_one_process_stops_all(tmp_path_factory: pytest.TempPathFactory):
    out = slow_pair(tmp_path_factory)
    for rank in (0, 1):
        assert "the loss is not finite at step 2" in (out / f"stopped-rank{rank}.txt").read_text()
