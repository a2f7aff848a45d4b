from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medssl.data.checks.confounding import association, confounding, medians_without_self
from tests.data.checks.test_table import cohort, only, people, run

__all__ = ["people"]


def test_age_that_is_known_from_the_site_is_a_warning_with_numbers(people):
    balanced = only(run(people), "age-site")
    assert balanced.level == "info"
    people.loc[people["site"] == "B", "age"] += 40
    confounded = only(run(people), "age-site")
    assert confounded.level == "warning"
    assert "age and scanner are confounded" in confounded.text


def test_confounding_equals_the_definition(people):
    rng = np.random.default_rng(0)
    people["age"] = rng.uniform(20, 80, len(people))
    people["site"] = ["A"] * 4 + ["B"] * 7 + ["C"] * 4 + ["D"]
    numbers = confounding(cohort(people))
    ages, sites = people["age"].to_numpy(), people["site"].to_numpy()
    within = sum(((ages[sites == site] - ages[sites == site].mean()) ** 2).sum() for site in "ABCD")
    assert numbers["eta_squared"] == pytest.approx(1 - within / ((ages - ages.mean()) ** 2).sum())
    errors = []
    for k in range(len(ages)):
        others = (np.arange(len(ages)) != k) & (sites == sites[k])
        errors.append(abs(ages[k] - np.median(ages[others] if others.any() else np.delete(ages, k))))
    assert numbers["mae_site_median"] == pytest.approx(np.mean(errors))


@pytest.mark.parametrize("n", [2, 3, 4, 7, 8])
def test_medians_without_self_equal_the_loop(n):
    values = np.random.default_rng(n).integers(0, 5, n).astype(float)
    loop = [np.median(np.delete(values, k)) for k in range(n)]
    assert medians_without_self(values).tolist() == loop


def test_a_diagnosis_that_is_known_from_the_site_is_a_warning_with_numbers(people: pd.DataFrame):
    assert not [finding for finding in run(people) if finding.code in ("diagnosis-site", "sex-site")], "nothing varies"
    even = people.assign(diagnosis=["AD", "AD", "CN", "CN"] * 4, sex=list("MMFF") * 4)
    for code in ("diagnosis-site", "sex-site"):
        finding = only(run(even), code)
        assert finding.level == "info"
        assert "Cramer's V 0.00, 0.00 corrected for 2 sites" in finding.text
        assert "confounded" not in finding.text
    told = even.assign(diagnosis=["CN", "AD"] * 8, sex=list("FM") * 8)
    for code, name in (("diagnosis-site", "AD"), ("sex-site", "F")):
        finding = only(run(told), code)
        assert finding.level == "warning"
        assert f"the share of '{name}' runs from 0 %" in finding.text
        assert finding.text.endswith("may be the scanner; score within each site that has both")


def test_cramers_v_equals_the_definition_and_its_correction_takes_chance_away(people: pd.DataFrame):
    rng = np.random.default_rng(0)
    people["site"] = ["A"] * 5 + ["B"] * 7 + ["C"] * 4
    people["diagnosis"] = rng.choice(["AD", "CN", ""], len(people))
    found = association(cohort(people), "diagnosis")
    known = people[people["diagnosis"] != ""]
    n, chi2 = len(known), 0.0
    for site in "ABC":
        for name in ("AD", "CN"):
            seen = ((known["site"] == site) & (known["diagnosis"] == name)).sum()
            expected = (known["site"] == site).sum() * (known["diagnosis"] == name).sum() / n
            chi2 += (seen - expected) ** 2 / expected
    assert found["cramers_v"] == pytest.approx((chi2 / n) ** 0.5)
    corrected = max(0.0, chi2 / n - 2 / (n - 1)) / (min(3 - 4 / (n - 1), 2 - 1 / (n - 1)) - 1)
    assert found["corrected"] == pytest.approx(corrected**0.5)
    assert (found["sites"], found["names"], found["large"]) == (3, 2, 0.5)


def test_many_sites_of_few_people_are_no_association(tmp_path: Path):
    rng = np.random.default_rng(1)
    drawn = []
    for _ in range(20):
        rows = pd.DataFrame({"participant_id": [f"p{k}" for k in range(60)], "image": "a.nii"})
        rows = rows.assign(image=[str(tmp_path / f"{k}.nii") for k in range(60)])
        rows = rows.assign(site=[f"s{k % 20}" for k in range(60)], diagnosis=rng.choice(["AD", "CN"], 60))
        drawn.append(association(cohort(rows), "diagnosis"))
    assert np.mean([found["cramers_v"] for found in drawn]) > 0.5
    assert np.mean([found["corrected"] for found in drawn]) < 0.2


def test_visits_count_once_and_one_site_or_name_says_nothing(people: pd.DataFrame):
    people["diagnosis"] = ["AD", "CN"] * 8
    again = pd.concat([people, people.iloc[:1].assign(session="2", image=people["image"][0] + "2.nii")])
    assert association(cohort(again), "diagnosis") == association(cohort(people), "diagnosis")
    assert association(cohort(people.assign(site="A")), "diagnosis") == {}
    assert association(cohort(people.assign(diagnosis="CN")), "diagnosis") == {}
