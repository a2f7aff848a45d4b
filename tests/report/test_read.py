from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medssl.errors import UserError
from medssl.report import charts, curves, sections, trust
from medssl.report.build import render
from medssl.report.cohort import groups, site_errors
from medssl.report.read import read_run


def test_a_whole_run_is_read_with_its_first_and_last_map(whole_run: Path):
    files = read_run(whole_run)
    assert [epoch for epoch, _ in files.maps] == [5, 28]
    assert files.scores is not None
    assert files.scores.encoder.ci["mae_external"] == (4.4, 5.6)
    assert files.scores.differences["untrained"]["mae_external"].difference == -5.0
    assert {k: len(g.frame) for k, g in groups(files).items()} == {
        "train": 340,
        "internal_test": 60,
        "external_test": 120,
    }


def test_a_half_written_last_line_of_a_log_is_left_out(bare_run: Path):
    (bare_run / "logs" / "train.csv").write_text("step,loss\n5,2.0\n10,1.5\n15,1.")
    (bare_run / "logs" / "messages.jsonl").write_text('{"text": "a"}\n{"te')
    files = read_run(bare_run)
    assert files.steps is not None
    assert files.steps["step"].tolist() == [5.0, 10.0]
    assert files.messages == ({"text": "a"},)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "The log logs/messages.jsonl is empty, so nothing of it is shown."),
        (bytes(400), "The log logs/messages.jsonl is cut off in line 1, so that line and what followed are not shown."),
        (b'{"text": "a"}\n{"te', "logs/messages.jsonl is cut off in line 2"),
    ],
)
def test_a_damaged_log_is_named_in_the_report(whole_run: Path, tmp_path: Path, content: bytes, sentence: str):
    run = Path(shutil.copytree(whole_run, tmp_path / "damaged"))
    (run / "logs" / "messages.jsonl").write_bytes(content)
    page = render(read_run(run))
    assert page.count(sentence) == 2  # beside the messages and in the appendix
    assert "1 log of the training is damaged, so warnings may be missing" in page
    assert "No warning was given during training." not in page


def test_a_log_of_numbers_that_lost_its_rows_or_its_steps_is_named(whole_run: Path, tmp_path: Path):
    run = Path(shutil.copytree(whole_run, tmp_path / "damaged"))
    table = run / "logs" / "train.csv"
    header, first, *_ = table.read_text().splitlines()
    table.write_text(f"{header}\n")
    assert read_run(run).damage == ("The log logs/train.csv has a header and no row, so nothing of it is shown.",)
    table.write_text(f"{header}\n{first}\n{',' * header.count(',')}\n")
    with pytest.raises(UserError, match=r"train\.csv line 3 has no step; remove the line"):
        read_run(run)


def test_the_log_of_an_interrupted_training_with_whole_lines_is_not_called_damaged(whole_run: Path):
    assert read_run(whole_run).damage == ()


def test_of_steps_logged_twice_the_last_one_counts(bare_run: Path):
    (bare_run / "logs" / "train.csv").write_text("step,loss\n5,2.0\n10,1.5\n10,1.4\n15,\n")
    steps = read_run(bare_run).steps
    assert steps is not None
    assert steps["loss"].tolist()[:2] == [2.0, 1.4]
    assert np.isnan(steps["loss"].iloc[2])


def test_json_lines_serve_where_there_is_no_table(bare_run: Path):
    (bare_run / "logs" / "train.jsonl").write_text('{"step": 5, "loss": 2.0}\n{"step": 10, "loss": null}\n')
    steps = read_run(bare_run).steps
    assert steps is not None
    assert steps["step"].tolist() == [5, 10]


def test_predictions_without_an_age_are_left_out(bare_run: Path):
    (bare_run / "predictions.csv").write_text(
        "participant_id,age,predicted,split\n001,30,31,external_test\n002,n/a,31,external_test\n003,40,,external_test\n"
    )
    table = read_run(bare_run).predictions
    assert table is not None
    assert table["participant_id"].tolist() == ["001"]
    assert table["features"].tolist() == ["encoder"]


def test_a_features_table_of_other_scans_does_not_describe_the_training(bare_run: Path):
    (bare_run / "run.json").write_text('{"training": {"scans": 5}}')
    (bare_run / "features.csv").write_text("participant_id,age,split,f0000\na,30,train,0.1\nb,40,external_test,0.2\n")
    assert list(groups(read_run(bare_run))) == ["external_test"]


def test_several_players_have_a_line_each(make_run: Callable[..., Path]):
    steps = read_run(make_run("game", players=("encoder", "critic"))).steps
    assert steps is not None
    losses, others = curves.curve_columns(steps)
    assert losses == ["loss_encoder", "loss_critic"]
    assert "chance" not in others
    axes = curves.curves(steps).axes[0]
    assert [t.get_text() for t in axes.get_legend().get_texts()] == ["encoder", "critic"]


def test_the_loss_is_drawn_with_its_chance_level_and_spread_with_its_healthy_one(whole_run: Path):
    steps = read_run(whole_run).steps
    assert steps is not None
    fig = curves.curves(steps.assign(std_healthy=0.125))
    texts = {a.get_title(loc="left"): [t.get_text() for t in a.texts] for a in fig.axes}
    assert texts["loss"] == ["chance"]
    assert texts["embedding spread"] == ["1/√D"]
    assert texts["RankMe"] == []


def test_errors_per_site_are_means_inside_their_intervals(whole_run: Path):
    table = read_run(whole_run).predictions
    assert table is not None
    mine = table[table["features"] == "encoder"]
    found = site_errors(mine)
    part = mine[mine["site"] == "site-12"]
    row = found[found["site"] == "site-12"].iloc[0]
    assert row["mae"] == pytest.approx(charts.mae(part))
    assert row["bias"] == pytest.approx((part["predicted"] - part["age"]).mean())
    assert row["low"] < row["mae"] < row["high"]
    assert found["split"].tolist()[0] == "external_test"
    assert found["n"].sum() == len(mine)


def test_r2_is_one_for_perfect_and_undefined_for_equal_ages(whole_run: Path):
    table = read_run(whole_run).predictions
    assert table is not None
    assert charts.r2(table.assign(predicted=table["age"])) == 1.0
    assert charts.r2(table.assign(age=30.0)) is None


def test_one_split_and_one_scan_are_enough_for_the_figures(bare_run: Path):
    (bare_run / "predictions.csv").write_text("age,predicted,split,site\n30,31,external_test,\n")
    files = read_run(bare_run)
    found = sections.ages(files)
    assert found is not None
    assert "1 scans" not in found.alt or "n" in found.alt
    errors = sections.sites(files)
    assert errors is not None
    assert errors["rows"][0]["mae"] == 1.0


def test_people_and_sites_on_both_sides_are_found(bare_run: Path):
    (bare_run / "features.csv").write_text(
        "participant_id,age,split,site\na,30,train,x\nb,40,train,y\na,30,internal_test,x\nc,50,external_test,y\n"
    )
    bad = [v.text for v in trust.statement(read_run(bare_run)) if v.kind == "bad"]
    assert len(bad) == 2
    assert "1 person is in training and in a test split (a)" in bad[0]
    assert "1 site that counts as unseen is also in training (y)" in bad[1]


def test_equal_ids_of_different_data_sets_are_different_people(bare_run: Path):
    (bare_run / "features.csv").write_text(
        "participant_id,dataset,age,split,site\n1,ixi,30,train,x\n1,camcan,40,external_test,y\n"
    )
    sentences = [v.text for v in trust.statement(read_run(bare_run)) if v.kind == "good"]
    assert sentences == [
        "Checked: nobody is on both sides. 1 person in training and 1 person in the tests were compared by data set "
        "and participant_id.",
        "Checked: the unseen site y does not occur in training.",
    ]


def test_one_person_under_two_ids_is_found_by_subject(bare_run: Path):
    (bare_run / "features.csv").write_text(
        "participant_id,subject,age,split,site\na,p1,30,train,x\nb,p1,31,external_test,y\nc,p2,31,external_test,y\n"
    )
    bad = [v.text for v in trust.statement(read_run(bare_run)) if v.kind == "bad"]
    assert len(bad) == 1
    assert "1 person is in training and in a test split (b)" in bad[0]


@pytest.mark.parametrize(
    ("digests", "kind", "words"),
    [
        (("f1-v1", "f2-v2", "f3-v3"), "good", "no test scan is the same image as a training scan"),
        (("f1-v1", "f2-v2", "f3-v1"), "bad", "1 test scan is the same image as a training scan (first: c)"),
        (("f1-v1", "f2-v2", ""), "open", "is checked by `medssl cohort check`"),
    ],
)
def test_one_image_on_both_sides_is_found_by_its_digest(
    digests: tuple[str, str, str], kind: str, words: str, bare_run: Path
):
    rows = zip(("a,x,train", "b,y,external_test", "c,y,external_test"), digests, strict=True)
    lines = ["participant_id,site,split,scan_digest,age", *(f"{row},{digest},30" for row, digest in rows)]
    (bare_run / "features.csv").write_text("\n".join(lines) + "\n")
    assert [v.kind for v in trust.statement(read_run(bare_run)) if words in v.text] == [kind]


def test_a_note_of_the_scoring_on_known_scans_is_against_the_run(bare_run: Path, whole_run: Path):
    shutil.copy(whole_run / "features.csv", bare_run)
    scores = json.loads((whole_run / "scores.json").read_text())
    note = "1 of 9 test scans is the same image as one trained on, so their scores say nothing about new people"
    (bare_run / "scores.json").write_text(json.dumps(scores | {"notes": [note]}))
    assert [v.text for v in trust.statement(read_run(bare_run)) if v.kind == "bad"] == [f"{note}."]


def test_relatives_on_both_sides_are_found_and_without_families_it_is_said_so(bare_run: Path):
    table = "participant_id,Family,age,split,site\na,f1,30,train,x\nb,{},40,external_test,y\nc,f3,41,external_test,y\n"
    (bare_run / "features.csv").write_text(table.format("f1"))
    text = {v.kind: v.text for v in trust.statement(read_run(bare_run)) if "amil" in v.text}
    assert (
        "Relatives are on both sides: family f1 is in training and in a test split (1 test scan in all)" in text["bad"]
    )
    (bare_run / "features.csv").write_text(table.format("f2"))
    text = {v.kind: v.text for v in trust.statement(read_run(bare_run)) if "amil" in v.text}
    assert text == {"good": "Checked: none of the 3 families is on both sides."}
    (bare_run / "features.csv").write_text(table.replace("Family", "group").format("f1"))
    text = {v.kind: v.text for v in trust.statement(read_run(bare_run)) if "amil" in v.text}
    assert "relatives on both sides would not be noticed" in text["open"]


def test_odd_but_valid_records_do_not_stop_the_report(bare_run: Path, whole_run: Path):
    facts: dict[str, Any] = json.loads((whole_run / "run.json").read_text())
    facts["training"] |= {"per_site": [3, {"site": None}], "age": [None, 1, 2], "sex": [], "manifests": "one"}
    facts |= {"views": "robust", "versions": None, "hashes": "none", "created": 5}
    (bare_run / "run.json").write_text(json.dumps(facts))
    shutil.copy(whole_run / "features.csv", bare_run)
    files = read_run(bare_run)
    assert sections.headline(files, [])["trained_on"] == "340 scans of 340 simulated people from 8 sites"
    assert dict(sections.settings(files))["Views (augmentation)"] == ["policy: robust"]
    assert len(sections.cohort(files)["sites"]) == 12
    assert trust.origin(files)["tables"][1] == ("Hashes (sha256)", [])
