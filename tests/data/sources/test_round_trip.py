"""What a scan found, its manifest says: written and read again, every cell is the same."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import pandas as pd
import pytest

from medssl.data.manifest.cohort import Cohort
from medssl.data.manifest.file import split_name
from medssl.data.sources.bids import scan_folder
from medssl.data.sources.tables import write_manifest
from tests.data.sources.trees import bids, notes, table

AGES = ("0", "0.0", "3", "30", "41.25", "62,5", "35Y", "006M", "89+", "18-38", "-9", "-999", "999", "n/a", "")
SEXES = ("M", "F", "male", "Frau", "1", "2", "9", "x", "n/a", "")
SITES = ("Oslo", "NA", "007", "7", "-9", "1e3", "a,b", 'a"b', "")
NUMBERS = ("100", "12.5", "12,5", "-12", "800", "999", "-9", "-99", "9999", "1.0", "0012", "word", "?", "")
COLUMNS = {
    "age": AGES, "AGE": AGES, "age_months": AGES, "sex": SEXES, "Sex": SEXES, "gender": SEXES, "site": SITES,
    "SITE": SITES, "dataset": ("A", "B", "none", ""), "diagnosis": ("AD", "CN", "none", "-9", "2"), "iq": NUMBERS,
    "score": NUMBERS, "f0001": NUMBERS, "family": NUMBERS, "Weight": NUMBERS, "subject": ("patient", "a", "b", "c", ""),
    "Split": ("train", "val", "test", "fold1", ""), "mask": SITES, "row": NUMBERS, "Manifest": SITES, "Image_T2": SITES,
}  # fmt: skip
LABELS = ("01", "02", "03", "04", "05", "NA", "7")


def tree(root: Path, dice: random.Random) -> Path:
    """A BIDS folder of a few people, of whom some have no image, some no row, and some a table of sessions."""
    visits = dice.choice([[""], ["/1", "/2"], ["/baseline", "/M12"]])
    people = dice.sample(LABELS, dice.randint(1, 6))
    bids(root, *(f"{label}{visit}" for label in people for visit in visits))
    semicolons = dice.random() < 0.3
    separator = ";" if semicolons else "\t"

    def lines(first: str, keys: list[str], columns: list[str]) -> str:
        some = [n for n in columns if not (semicolons is False and n == first)]
        few = {name: dice.sample(COLUMNS[name], min(4, len(COLUMNS[name]))) for name in some}
        quoted = [[key, *('"' + dice.choice(few[name]).replace('"', '""') + '"' for name in some)] for key in keys]
        return "\n".join(separator.join(row) for row in [[first, *some], *quoted]) + "\n"

    columns = dice.sample(list(COLUMNS), dice.randint(1, 8))
    rows = list(dict.fromkeys([people[0], *dice.sample(LABELS, dice.randint(1, len(LABELS)))]))
    (root / "participants.tsv").write_text(lines("participant_id", rows, columns), encoding="utf-8")
    if visits != [""] and dice.random() < 0.6:
        for label in people:
            if dice.random() < 0.7:
                text = lines("session_id", ["1" if "/1" in visits else "bl"], dice.sample(list(COLUMNS), 3))
                path = root / f"sub-{label}" / f"sub-{label}_sessions.tsv"
                path.write_text(text, encoding="utf-8")
                if dice.random() < 0.5:
                    path.with_suffix(".json").write_text(
                        json.dumps({"age": {"Units": dice.choice(["months", "years"])}})
                    )
    return root


def differences(found: pd.DataFrame, read: pd.DataFrame) -> list[str]:
    """Cells that are not the same."""
    out = []
    for name in found.columns:
        for k, (one, other) in enumerate(zip(found[name].tolist(), read[name].tolist(), strict=True)):
            first, second = split_name(one) or "" if name == "split" else one, other
            if isinstance(second, float) and not isinstance(first, float):
                first = float(first) if first else math.nan
            if name == "subject" and not first:  # an empty one stands for the person
                continue
            if first != second and not (first != first and second != second):
                out.append(f"{name} of row {k}: {one!r} is read as {other!r}")
    return out


@pytest.mark.oddity("scan-and-manifest-agree")
@pytest.mark.parametrize("seed", range(60))
def test_every_cell_of_a_scan_is_read_back_from_its_manifest(tmp_path: Path, seed: int):
    dice = random.Random(seed)
    roots = [tree(tmp_path / f"study{k}", dice) for k in range(dice.choice([1, 1, 2]))]
    layout = dice.choice(["auto", "flat"]) if len(roots) == 1 else "auto"
    found = scan_folder(roots if len(roots) > 1 else roots[0], layout=layout)
    cohort = Cohort.read(write_manifest(found, tmp_path / f"m.{dice.choice(['csv', 'tsv'])}"))
    assert differences(found, cohort.table) == []
    assert not [note for note in cohort.notes if "missing" in note or "left empty" in note], "the scan has said it"
    assert (cohort.table["weight"] == 1).all()


@pytest.mark.oddity("scan-and-manifest-agree")
def test_values_that_only_rows_without_an_image_spoke_for_are_judged_at_the_scan(tmp_path: Path):
    bids(tmp_path, "01", "02", "03")
    text = "participant_id age iq score\n01 0 100 5\n02 30 999 -9\n03 40 90 7\n"
    table(tmp_path, text + "04 3 800 -12\n")
    found = scan_folder(tmp_path)
    assert found["age"].fillna(-1).tolist() == [-1, 30.0, 40.0]
    assert found["iq"].tolist() == ["100", "", "90"]
    assert found["score"].tolist() == ["5", "", "7"]
    assert '2 cells of the rows with an image were read as missing: iq "999" (1), score "-9" (1)' in notes(found)
    assert "1 age of the rows with an image was left empty, being 0 where nobody else is under 15" in notes(found)


@pytest.mark.oddity("decimal-comma")
def test_decimal_commas_of_a_participants_table_are_points(tmp_path: Path):
    bids(tmp_path, "01", "02")
    (tmp_path / "participants.tsv").write_text("participant_id;iq;place;age\n01;12,5;a,b;30,5\n02;100;c;40\n")
    found = scan_folder(tmp_path)
    assert found["iq"].tolist() == ["12.5", "100"]
    assert found["place"].tolist() == ["a,b", "c"]
    assert found["age"].tolist() == [30.5, 40.0]
    assert "decimal commas of participants.tsv were read in column iq" in notes(found)
    assert Cohort.read(write_manifest(found, tmp_path / "m.csv")).table["iq"].tolist() == [12.5, 100.0]
