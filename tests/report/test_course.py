"""Captions say what is drawn, and one value alone is a sentence and no figure."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from medssl.report import course
from medssl.report.read import RunFiles, read_run


@pytest.fixture(scope="module")
def files(whole_run: Path) -> RunFiles:
    return read_run(whole_run)


def caption(files: RunFiles) -> str:
    return str(course.training(files)["curves"].caption)


def test_the_caption_of_the_curves_says_what_is_drawn(files: RunFiles):
    assert files.steps is not None
    text = caption(files)
    assert "strong ones their running median" in text
    assert "Dashed in the loss: its chance level" in text
    assert "1/√D" not in text, "this log does not know it"
    healthy = caption(replace(files, steps=files.steps.assign(std_healthy=0.1)))
    assert "Dashed in the spread: 1/√D, which a healthy embedding of D dimensions has." in healthy
    few = caption(replace(files, steps=files.steps.head(3).drop(columns="chance")))
    assert few.startswith("Lines are the logged values.")
    assert "median." not in few
    assert "Dashed" not in few


def test_the_caption_of_the_probes_speaks_of_dashes_where_there_are_any(files: RunFiles):
    assert files.probes is not None
    assert course.training(files)["probes"].caption.endswith("Dashed: chance.")
    plain = replace(files, probes=files.probes.drop(columns=["age_chance", "site_chance"]))
    assert "Dashed" not in course.training(plain)["probes"].caption


def test_one_value_is_told_in_words(files: RunFiles):
    assert files.probes is not None
    assert files.steps is not None
    found = course.training(replace(files, probes=files.probes.head(1), steps=files.steps.head(1)))
    assert (found["curves"], found["probes"]) == (None, None)
    assert found["once"].startswith("One step was logged, number 5: loss 3.")
    assert found["probed_once"].startswith(
        "The probes ran once, after epoch 5: age error 8.5 years (chance 12.3 years)"
    )
    bare = course.training(replace(files, probes=files.probes[["epoch"]].head(1)))
    assert bare["probed_once"].startswith("The probes ran once, after epoch 5, and nothing could be measured.")


def test_two_maps_are_named_in_the_order_in_which_they_stand(files: RunFiles):
    assert course.maps(files)["order"] == (
        "Two maps are shown: after epoch 28, the last one that was drawn, and below it, for comparison, after epoch 5, "
        "the first one."
    )
    assert course.maps(replace(files, maps=files.maps[:1]))["order"] == ""
