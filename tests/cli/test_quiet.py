"""What --quiet does not hide, and what a run that is being trained says of itself."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from medssl import distributed
from tests.cli.conftest import Told, one_sentence
from tests.test_files import HOLDER
from tests.test_tables import QUICK, SMALL, regions


@pytest.mark.oddity("id-in-two-spellings")
def test_quiet_hides_bars_and_no_note_on_a_possible_leak(
    tmp_path: Path, medssl: Callable[..., Told], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(distributed, "_TOLD", set())
    manifest = regions(tmp_path / "regions.csv")
    table = pd.read_csv(manifest, dtype=str)
    test = int((table["split"] == "internal_test").to_numpy().argmax())
    table.loc[test, "participant_id"] = "sub-0"  # somebody else's 0000, who is in train
    table.to_csv(manifest, index=False)
    recipe = [f"data.manifest={manifest}", 'data.columns=["*_volume"]', f"output={tmp_path / 'run'}", *QUICK, *SMALL]
    status, _, err = medssl("pretrain", "exponential_roi", *recipe, "trainer.epochs=1", "--quiet")
    assert status == 0
    assert err.count("two ids may be one person in two spellings ('0000' at regions.csv row 2 (0000)") == 1
    assert "steps" not in err
    rows = [json.loads(line) for line in (tmp_path / "run/logs/messages.jsonl").read_text().splitlines()]
    assert any("two ids may be one person in two spellings" in row["text"] for row in rows)


def test_a_run_that_is_being_trained_is_waited_for_and_a_dead_one_is_resumed(
    tmp_path: Path, medssl: Callable[..., Told]
):
    run = tmp_path / "run"
    run.mkdir()
    command = [sys.executable, "-c", HOLDER, str(run / ".lock")]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    try:
        said = one_sentence(medssl("score", run))
        assert "is being trained by another process and holds no encoder yet; wait" in said
        assert "--resume" not in said
        assert "is being trained" in one_sentence(medssl("score", run)), "asking takes no lock away"
    finally:
        holder.kill()
        holder.wait()
    assert "holds no encoder yet; finish it with `medssl pretrain --resume" in one_sentence(medssl("score", run))
