from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from medssl.data.manifest.cohort import Cohort

ROOT = Path(__file__).parents[2] / "data_manifests"
EXAMPLES = sorted((ROOT / "examples").glob("*.csv"))
SCHEMA = {field["name"]: field for field in json.loads((ROOT / "schema.json").read_text())["fields"]}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_manifests_of_the_schema(path):
    cohort = Cohort.read(path)
    header = path.read_text().split("\n", 1)[0].split(",")
    assert all(name in SCHEMA or re.fullmatch(r"image_\w+", name) for name in header)
    for name in ("sex", "split"):
        assert set(cohort.table[name]) - {""} <= set(SCHEMA[name]["constraints"]["enum"])
    assert cohort.table["age"].dropna().between(0, 120).all()


def test_the_schema_names_every_column_that_a_cohort_always_has():
    always = set(Cohort.read(EXAMPLES[0]).table.columns) - {"manifest", "row"}
    assert always <= set(SCHEMA)


def test_the_readme_explains_every_column_and_only_uses_options_that_exist():
    from typer.testing import CliRunner

    from medssl.cli.cohort import app

    text = (ROOT / "README.md").read_text()
    assert all(f"| `{name}` |" in text for name in SCHEMA if name != "image_t2")
    known = CliRunner().invoke(app, ["scan", "--help"]).output
    used = re.findall(r"medssl cohort scan (?:[^\n]*\\\n)*[^\n]*", text)
    assert len(used) >= 6
    assert all(option in known for call in used for option in re.findall(r"--[a-z]+", call))
