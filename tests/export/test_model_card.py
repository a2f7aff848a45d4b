"""The model card: metadata that the hub reads, an example that runs, and the figures of the scores."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from medssl.data.volumes.volume import write_volume
from medssl.encoders.file import weights_digest
from medssl.errors import StaleError, UserError
from medssl.evaluation.caution import SITE_DIRECTION
from medssl.export.model_card import build_model_card
from medssl.export.reporting import write_documents
from medssl.heads.file import save_head
from medssl.heads.mlp import MLP
from tests.report.checklists.study import change, study, write_encoder

HOSTILE = '<script>alert("x")</script>|`b`\n---\n# e'
SECTIONS = ("Intended use", "How to use it", "Training data", "Training procedure", "Evaluation", "Limits",
            "Software and hardware", "Citation and contact", "For the authors, before this is published")  # fmt: skip


@pytest.fixture(scope="module")
def whole_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return study(tmp_path_factory.mktemp("studies") / "demo")


@pytest.fixture
def a_study(whole_study: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole_study, tmp_path / "demo"))


def read(path: Path) -> tuple[dict[str, Any], str]:
    """Metadata and body of a card."""
    begin, metadata, body = path.read_text(encoding="utf-8").split("---\n", 2)
    assert begin == ""
    found = yaml.safe_load(metadata)
    assert isinstance(found, dict)
    return found, body


def flat(record: Any) -> list[Any]:
    """Every value of nested metadata."""
    if isinstance(record, dict):
        return [v for inner in record.values() for v in flat(inner)]
    return [v for inner in record for v in flat(inner)] if isinstance(record, list) else [record]


def test_the_metadata_are_what_the_hub_asks_for(a_study: Path):
    path = build_model_card(a_study)
    assert path == a_study / "model-card" / "README.md"
    metadata, _ = read(path)
    assert metadata["library_name"] == "medssl"
    assert metadata["pipeline_tag"] == "image-feature-extraction"
    assert {"neuroimaging", "self-supervised-learning", "exponential", "resnet18", "3d"} <= set(metadata["tags"])
    assert all(isinstance(tag, str) and re.fullmatch(r"[a-z0-9-]+", tag) for tag in metadata["tags"])
    assert not {"license", "datasets", "base_model"} & set(metadata), "only the authors know these"
    assert "# license: left to the authors" in path.read_text()


def test_the_results_are_the_values_of_the_scores(a_study: Path):
    scores = json.loads((a_study / "scores.json").read_text())
    (model,) = read(build_model_card(a_study))[0]["model-index"]
    assert model["name"] == "demo"
    given = {}
    for result in model["results"]:
        assert set(result) == {"task", "dataset", "metrics"}
        assert result["task"]["type"]
        assert result["dataset"]["type"]
        assert result["dataset"]["name"]
        for metric in result["metrics"]:
            given[metric["type"], result["dataset"]["split"]] = metric["value"]
    assert given == {
        ("mae", "external_test"): scores["mae_external"],
        ("rmse", "external_test"): scores["rmse_external"],
        ("r_squared", "external_test"): scores["r2_external"],
        ("mae", "internal_test"): scores["mae_internal"],
        ("rmse", "internal_test"): scores["rmse_internal"],
        ("r_squared", "internal_test"): scores["r2_internal"],
        ("balanced_accuracy", "internal_test"): scores["site_bacc"],
    }


def test_the_body_has_its_sections_and_no_word_that_says_nothing(a_study: Path):
    _, body = read(build_model_card(a_study))
    assert tuple(re.findall(r"^## (.+)$", body, re.M)) == SECTIONS
    assert not re.search(r"\bnan\b|\bNone\b(?!:)|\{\}|\[\]", body)
    assert "jane" not in body
    assert "sub-0" not in body
    assert "Not for clinical use" in body
    assert "arXiv 2211.08326" in body
    assert "best published" not in body, "what the catalogue says of a paper is not true of this run"


def test_errors_stand_beside_their_intervals_and_references(a_study: Path):
    scores = json.loads((a_study / "scores.json").read_text())
    _, body = read(build_model_card(a_study))
    rows = {c[0].strip(): [w.strip() for w in c[1:]] for line in body.splitlines() if line.startswith("|")
            for c in [line.strip("|").split("|")]}  # fmt: skip
    low, high = scores["ci"]["mae_external"]
    assert rows["This encoder"][0] == f"{scores['mae_external']:.1f} ({low:.1f} to {high:.1f})"
    assert rows["Untrained encoder"][0].startswith("10.0 ")
    assert rows["Constant features (chance)"][3].startswith("12.5 %")
    (a_study / "predictions.csv").unlink()
    change(a_study / "scores.json", mae_external=8.125, challenge=None)
    assert "| This encoder | 8.1 (" in build_model_card(a_study).read_text()


@pytest.fixture
def run_example(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], list[dict[str, Any]]]:
    """Runs every Python block of a card where the card and the encoder lie."""

    def run(card: Path) -> list[dict[str, Any]]:
        monkeypatch.chdir(card.parent)
        spaces: list[dict[str, Any]] = []
        for block in re.findall(r"```python\n(.*?)```", card.read_text(), re.S):
            spaces.append({})
            exec(compile(block, str(card), "exec"), spaces[-1])
        return spaces

    return run


def test_the_examples_run_as_they_stand(a_study: Path, run_example: Callable[[Path], list[dict[str, Any]]]):
    scan = np.random.default_rng(0).random((12, 12, 12)).astype(np.float32)
    write_volume(a_study / "scan.nii.gz", scan, np.diag([4.0, 4.0, 4.0, 1.0]))
    write_encoder(a_study / "encoder.safetensors", likeness=None)
    spaces = run_example(build_model_card(a_study, a_study / "README.md"))
    assert len(spaces) == 2
    for space in spaces:
        assert isinstance(space["features"], torch.Tensor)
        assert space["features"].shape == (1, 8)
    assert re.search(r"# \(1, 8\)", (a_study / "README.md").read_text())


def test_words_from_the_run_are_neither_markup_nor_metadata(tmp_path: Path):
    run = study(tmp_path / "a: [b] <i>|#c", site=HOSTILE)
    change(run / "run.json", method="- x: {y}\n---\nz: &a")
    write_encoder(run / "encoder.safetensors", licence=HOSTILE)
    metadata, body = read(build_model_card(run))
    assert metadata["model-index"][0]["name"] == "a: [b] <i>|#c"
    assert metadata["license"] == "other"
    assert metadata["license_name"] == " ".join(HOSTILE.split())
    assert all(isinstance(v, str | int | float) for v in flat(metadata))
    prose = re.sub(r"```.*?```", "", body, flags=re.S)
    assert "<" not in prose
    assert tuple(re.findall(r"^## (.+)$", body, re.M)) == SECTIONS
    assert re.findall(r"^# (.+)$", prose, re.M) == ["a: \\[b\\] &lt;i&gt;\\|#c"]


@pytest.mark.parametrize(("stated", "shown_as"), [("Apache-2.0", "apache-2.0"), ("cc-by-nc-4.0", "cc-by-nc-4.0")])
def test_a_licence_that_is_stated_is_in_the_metadata(stated: str, shown_as: str, a_study: Path):
    write_encoder(a_study / "encoder.safetensors", licence=stated)
    path = build_model_card(a_study)
    assert read(path)[0]["license"] == shown_as
    assert "left to the authors, such as" not in path.read_text()


def test_a_run_that_is_not_scored_has_a_card_without_results(a_study: Path):
    for name in ("scores.json", "predictions.csv", "features.csv"):
        (a_study / name).unlink()
    metadata, body = read(build_model_card(a_study))
    assert not {"model-index", "metrics"} & set(metadata)
    assert "Not evaluated yet. `medssl score demo` does that." in body
    change(a_study / "run.json", training={}, views=None, versions=None, hashes=None)
    (a_study / "recipe.yaml").unlink()
    _, body = read(build_model_card(a_study))
    assert not re.search(r"\bnan\b|\bNone\b|\{\}|\[\]", body)


def test_a_table_encoder_is_no_model_of_images(a_study: Path):
    write_encoder(a_study / "encoder.safetensors", columns={"names": ["a"], "mean": [0.0], "sd": [1.0]}, likeness=None)
    metadata, body = read(build_model_card(a_study))
    assert "pipeline_tag" not in metadata
    assert "tabular" in metadata["tags"]
    assert "load_network" not in body
    assert "medssl embed encoder.safetensors TABLE.csv" in body


def test_the_score_of_another_run_is_not_published(a_study: Path, tmp_path: Path):
    other = study(tmp_path / "other")
    digest = write_encoder(other / "encoder.safetensors", seed=1)
    hashes = json.loads((other / "run.json").read_text())["hashes"]
    change(other / "run.json", hashes=hashes | {"encoder": digest})
    shutil.copy(a_study / "scores.json", other / "scores.json")
    change(other / "scores.json", mae_external=0.01)
    with pytest.raises(StaleError, match=r"scores\.json: the scores were made from another encoder"):
        build_model_card(other)
    with pytest.raises(StaleError, match="another encoder"):
        write_documents(other, None, ["all"], True)
    change(a_study / "scores.json", mae_external=0.01)
    with pytest.raises(StaleError, match=r"predictions\.csv gives a mean absolute error on unseen sites of \d"):
        write_documents(a_study, None, ["all"], True)
    for run in (other, a_study):
        assert not (run / "model-card").exists()
        assert not list(run.glob("checklist*"))


def test_weights_that_are_not_those_of_the_run_are_not_described(a_study: Path):
    write_encoder(a_study / "encoder.safetensors", seed=1)
    with pytest.raises(StaleError, match=r"encoder\.safetensors is not the encoder that"):
        build_model_card(a_study)


def test_a_projector_of_another_run_is_refused(a_study: Path):
    head = MLP((8, 6, 5), norm="batch")
    path, facts = a_study / "projection.safetensors", json.loads((a_study / "run.json").read_text())
    save_head(head, path, normalise=True)
    build_model_card(a_study)  # of an older medssl, which kept no checksum of it
    change(a_study / "run.json", contents=None)
    with pytest.raises(StaleError, match=r"projection\.safetensors is not the projector that"):
        build_model_card(a_study)
    change(a_study / "run.json", hashes=facts["hashes"] | {"projection": weights_digest(head)})
    build_model_card(a_study)
    save_head(MLP((8, 6, 5), norm="batch"), path, normalise=True)
    with pytest.raises(StaleError, match="put it back, or move it out of the run folder"):
        build_model_card(a_study)


def test_how_the_site_score_is_read_is_said_as_everywhere(a_study: Path):
    (model,) = read(build_model_card(a_study))[0]["model-index"]
    names = [m["name"] for result in model["results"] for m in result["metrics"] if m["type"] == "balanced_accuracy"]
    assert names == [f"Balanced accuracy of reading the site ({SITE_DIRECTION})"]


def test_paths_inside_the_encoder_file_are_told_to_the_authors(a_study: Path):
    _, body = read(build_model_card(a_study))
    assert "holds absolute paths of the machine that trained it (recipe.data.manifest)" in body
    write_encoder(a_study / "encoder.safetensors", recipe={"data": {"manifest": "manifest.csv"}})
    assert "absolute path" not in build_model_card(a_study).read_text()


def test_without_an_encoder_there_is_no_card(a_study: Path, tmp_path: Path):
    (a_study / "encoder.safetensors").unlink()
    with pytest.raises(UserError, match="holds no encoder yet"):
        build_model_card(a_study)
    assert not (a_study / "model-card").exists()
    with pytest.raises(UserError, match=r"written as \.md"):
        build_model_card(study(tmp_path / "other"), tmp_path / "card.html")
