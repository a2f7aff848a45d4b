"""Scores of another run, and scores that were edited, are named on the page and refused where they are published."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from medssl.errors import StaleError
from medssl.report.checklists.known import read_known
from medssl.report.ownership import differing, other_encoder
from medssl.report.read import read_run
from tests.report.checklists.study import change, study


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return study(tmp_path_factory.mktemp("own") / "demo")


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "demo"))


def provenance(run: Path, **changes: object) -> None:
    found = json.loads((run / "scores.json").read_text())["provenance"] | changes
    change(run / "scores.json", provenance=found)


def test_scores_of_this_run_are_taken(run: Path):
    assert other_encoder(read_run(run)) == ""
    assert differing(read_run(run)) == []
    assert read_known(run).scores is not None


@pytest.mark.parametrize("encoder", ["ff" * 32, "", None, 3])
def test_scores_of_another_encoder_are_refused(run: Path, encoder: object):
    provenance(run, encoder=encoder)
    assert other_encoder(read_run(run))
    with pytest.raises(StaleError, match="run `medssl score ") as caught:
        read_known(run)
    assert "scores.json" in str(caught.value)


def test_where_the_record_is_gone_the_encoder_file_tells(run: Path):
    change(run / "run.json", hashes=None)
    assert read_known(run).scores is not None
    provenance(run, encoder="ff" * 32)
    with pytest.raises(StaleError, match="another encoder"):
        read_known(run)
    (run / "encoder.safetensors").unlink()
    with pytest.raises(StaleError, match="names no encoder"):
        read_known(run)


def test_an_encoder_file_of_another_run_is_refused(run: Path):
    hashes = json.loads((run / "run.json").read_text())["hashes"]
    change(run / "run.json", hashes=hashes | {"encoder": "cd" * 32})
    provenance(run, encoder="cd" * 32)
    with pytest.raises(StaleError, match=r"encoder\.safetensors is not the encoder that"):
        read_known(run)


@pytest.mark.parametrize(
    ("change_it", "words"),
    [
        (lambda c: c.update(mae_external=0.01, challenge=None), "This encoder: predictions.csv gives a mean absolute"),
        (lambda c: c.update(r2_internal=0.999), "an R² on known sites"),
        (lambda c: c.update(rmse_external=0.1), "a root mean squared error on unseen sites"),
        (lambda c: c["references"]["untrained"].update(mae_internal=30.0), "Untrained encoder: predictions.csv gives"),
        (lambda c: c.update(challenge=0.5), "but scores.json says 0.50"),
    ],
)
def test_an_edited_number_is_found(run: Path, change_it: Callable[[dict[str, object]], None], words: str):
    content = json.loads((run / "scores.json").read_text())
    change_it(content)
    (run / "scores.json").write_text(json.dumps(content))
    assert words in " ".join(differing(read_run(run)))
    with pytest.raises(StaleError, match="was changed or was not made together with predictions"):
        read_known(run)


def test_an_edited_site_accuracy_is_found(run: Path):
    table = pd.read_csv(run / "predictions.csv", dtype=str, keep_default_na=False)
    inside = table["split"] == "internal_test"
    table["site_predicted"] = table["site"].where(inside, "")
    table.to_csv(run / "predictions.csv", index=False)
    content = json.loads((run / "scores.json").read_text())
    for row in (content, content["references"]["untrained"]):
        row.update(site_bacc=1.0, challenge=row["mae_external"])
    (run / "scores.json").write_text(json.dumps(content))
    assert differing(read_run(run)) == []
    change(run / "scores.json", site_bacc=0.125, challenge=None)
    (wrong,) = differing(read_run(run))
    assert wrong.startswith("This encoder: predictions.csv gives a balanced accuracy of the site of 100\u00a0%")
    assert wrong.endswith(", scores.json says 12.5\u00a0%")


def test_numbers_that_look_alike_are_told_with_more_digits(run: Path):
    mae = json.loads((run / "scores.json").read_text())["mae_internal"]
    change(run / "scores.json", mae_internal=mae + 0.006)
    assert f"{mae:.3f}" in differing(read_run(run))[0] or f"{mae:.1f}" != f"{mae + 0.006:.1f}"
