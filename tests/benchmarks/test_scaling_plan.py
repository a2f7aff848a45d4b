"""The arithmetic of docs/scaling.md: an example by hand, directions, units, and what the table says of its inputs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.scaling import run
from benchmarks.scaling.measure import Measured, made_scan, measure
from benchmarks.scaling.plan import Inputs, gather_bytes, plan, reduce_bytes
from medssl.errors import UserError

GIVEN = Inputs(
    decode_s=0.5, read_s=0.001, view_s=0.02, net_s=0.03, hand_s=0.002, raw_bytes=4e6, voxels=2_000_000, itemsize=4,
    views=2, batch=32, embedding=128, parameters=33e6, cores=8, node=8, memory=400e9, disk=2e9, link=200e9, wire=25e9,
    latency_s=20e-6,
)  # fmt: skip
IDLE = {"net_s": 1e-5, "view_s": 0.0, "read_s": 0.0, "hand_s": 0.0, "wire": 1e8}


def test_an_example_by_hand():
    """16 GPUs in two nodes, 100,000 scans of 8 MB: 800 GB, half of which is not in memory."""
    found = plan(GIVEN, 16, 100_000)
    assert found.read == pytest.approx(32 * 0.001 / 8)
    assert found.views == pytest.approx(32 * 2 * 0.02 / 8)
    assert found.hand == pytest.approx(32 * 2 * 0.002)
    assert found.disk == pytest.approx(0.5 * 8e6 * 32 * 8 / 2e9)
    assert found.net == pytest.approx(0.96)
    assert gather_bytes(16, 32, 2, 128) == 524_288
    assert found.gather == pytest.approx(2 * (524_288 * 15 / 16 / 25e9 + 15 * 20e-6))
    assert reduce_bytes(16, 33e6) == pytest.approx(247.5e6)
    assert found.reduce == 0.0  # 9.9 ms + 0.6 ms hide behind 640 ms of backward pass
    assert found.bound == "network"
    assert found.step == pytest.approx(0.96 + found.gather)
    assert found.steps == 195
    assert found.epoch == pytest.approx(195 * found.step)
    assert found.rate == pytest.approx(512 / found.step)
    assert found.build == pytest.approx(0.5 * 100_000 / 128)
    assert found.cores_needed == 2  # 41 ms of a core per scan against 30 ms of a GPU


@pytest.mark.parametrize(
    ("changes", "gpus", "scans", "bound"),
    [
        ({"view_s": 0.2}, 8, 10_000, "views"),
        ({"view_s": 0.0, "read_s": 0.5}, 8, 10_000, "read"),
        ({"hand_s": 0.02}, 8, 10_000, "hand-over"),
        ({"memory": 1e9, "disk": 1e8}, 8, 10_000, "disk"),
        ({}, 1, 10_000, "network"),
        (IDLE | {"embedding": 2048, "parameters": 1e3}, 64, 10_000, "all-gather"),
        (IDLE | {"parameters": 1e9}, 64, 10_000, "all-reduce"),
    ],
)
def test_each_part_can_be_the_bound(changes: dict, gpus: int, scans: int, bound: str):
    assert plan(replace(GIVEN, **changes), gpus, scans).bound == bound


def test_one_gpu_sends_nothing():
    alone = plan(GIVEN, 1, 10_000)
    assert (alone.gather, alone.reduce, reduce_bytes(1, 33e6)) == (0.0, 0.0, 0.0)


def test_slower_parts_never_make_a_faster_step_and_faster_ones_never_a_slower():
    base = plan(GIVEN, 64, 100_000)
    for name in ("decode_s", "read_s", "view_s", "hand_s", "net_s", "embedding", "parameters", "latency_s"):
        worse = plan(replace(GIVEN, **{name: 10 * getattr(GIVEN, name)}), 64, 100_000)
        assert worse.step >= base.step
        assert worse.build >= base.build
    for name in ("cores", "memory", "disk", "link", "wire"):
        better = plan(replace(GIVEN, **{name: 10 * getattr(GIVEN, name)}), 64, 100_000)
        assert better.step <= base.step
        assert better.build <= base.build


def test_more_gpus_shorten_an_epoch_and_never_by_more_than_their_number():
    epochs = {w: plan(GIVEN, w, 100_000).epoch for w in (1, 8, 64)}
    assert epochs[1] > epochs[8] > epochs[64]
    assert epochs[1] / epochs[64] <= 64 * 1.02  # the last, incomplete joint batch is dropped


def test_views_on_the_gpu_leave_the_cores_and_load_the_gpu():
    found = plan(replace(GIVEN, view_s=0.2, view_gpu_s=0.001), 8, 10_000)
    assert (found.views, found.hand) == (0.0, 0.0)
    assert found.net == pytest.approx(32 * (0.03 + 2 * 0.001))


def test_impossible_inputs_are_one_sentence():
    with pytest.raises(UserError, match="1000 scans are fewer than one joint batch of 64 GPUs x 32"):
        plan(GIVEN, 64, 1000)
    with pytest.raises(UserError, match="disk is 0; it must be above 0"):
        replace(GIVEN, disk=0)


def test_units_of_the_command_line_and_origins():
    inputs, source = run.fill(
        {"decode-ms": 500.0, "read-ms": 1.0, "view-ms": 20.0, "disk-gb": 3.0, "parameters-m": 33.0, "batch": 16.0}, None
    )
    assert (inputs.decode_s, inputs.read_s, inputs.view_s) == pytest.approx((0.5, 0.001, 0.02))
    assert (inputs.disk, inputs.parameters, inputs.batch) == (3e9, 33e6, 16)
    assert (source["disk"], source["net_s"], source["views"]) == ("given", "ASSUMED", "chosen")
    cpu = Measured(0.5, 0.001, 0.02, 0.003, 4_000_000, 20.0, "one CPU core", 33_000_000, 10**11)
    stood, source = run.fill({}, cpu)
    assert (stood.hand_s, source["hand_s"]) == (0.003, "measured")
    assert (stood.net_s, source["net_s"], source["decode_s"]) == (0.03, "ASSUMED", "measured")
    gpu, source = run.fill({}, replace(cpu, net_s=0.004, device="Some GPU"))
    assert (gpu.net_s, source["net_s"]) == (0.004, "measured on Some GPU")
    given, source = run.fill({"gpu-ms": 7.0}, replace(cpu, net_s=0.004, device="Some GPU"))
    assert (given.net_s, source["net_s"]) == (0.007, "given")


def test_the_table_has_a_row_per_plan_and_says_what_is_assumed(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    arguments = ["--decode-ms", "500", "--read-ms", "1", "--view-ms", "20", "--gpus", "1", "8"]
    text = run.main([*arguments, "--json", str(tmp_path / "plan.json")])
    assert capsys.readouterr().out == text + "\n"
    assert "| 30 | ASSUMED |" in text
    assert "| 20 | given |" in text
    rows = [row for row in text.splitlines() if row.startswith(("| 10,000", "| 100,000"))]
    assert [row.split(" | ")[1] for row in rows] == ["1", "8", "1", "8"]
    assert len({row.count("|") for row in text.split("Times of one step")[1].splitlines() if row[:1] == "|"}) == 1
    content = json.loads((tmp_path / "plan.json").read_text())
    assert [p["gpus"] for p in content["plans"]] == [1, 8, 1, 8]
    assert content["source"]["net_s"] == "ASSUMED"


def test_numbers_of_this_machine_are_core_seconds_of_real_work(tmp_path: Path):
    path = made_scan(tmp_path / "scan.nii.gz")
    found = measure(path, rounds=1, network=False)
    assert found.raw_bytes == path.stat().st_size
    assert 0 < found.read_s < found.decode_s
    assert found.view_s > 0
    assert found.hand_s > 0
    assert (found.net_s, found.flops) == (None, 0)
