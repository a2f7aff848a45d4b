"""Scans that look unlike the training scans of an encoder are named by kind; ordinary ones of other people are not."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest

from medssl import stages
from medssl.encoders.file import read_card
from medssl.errors import ScanWarning, UserError
from medssl.features.likeness import Likeness
from medssl.features.table import FeatureTable
from medssl.features.unlike import judge
from tests import strange
from tests.conftest import draw_cohort

WORDS = {
    "stripping": "not skull-stripped",
    "contrast": "contrast inverted",
    "turned": "head turned",
    "resolution": "another resolution",
    "field": "another field of view",
    "orientation": "stored in an orientation",
}


@pytest.fixture(scope="module")
def encoder(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return strange.encoder_on(cohort, tmp_path_factory.mktemp("unlike") / "encoder.safetensors")


def embedded(encoder: Path, manifest: Path, out: Path, **options: object) -> tuple[FeatureTable, list[str]]:
    """The table, and what was said of the scans."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        table = stages.embed(encoder, manifest, out, progress=False, **options)
    return table, [str(w.message) for w in caught if issubclass(w.category, ScanWarning)]


@pytest.mark.parametrize(
    ("change", "kinds"),
    [
        pytest.param(strange.unstripped, ["stripping"], marks=pytest.mark.oddity("not-skull-stripped")),
        pytest.param(strange.inverted, ["contrast"], marks=pytest.mark.oddity("contrast-inverted")),
        pytest.param(
            strange.inverted_head, ["stripping", "contrast"], marks=pytest.mark.oddity("unstripped-and-inverted")
        ),
        pytest.param(strange.turned, ["turned"], marks=pytest.mark.oddity("head-turned")),
        pytest.param(strange.finer, ["resolution"], marks=pytest.mark.oddity("other-voxel-size")),
        pytest.param(strange.cut, ["field"], marks=pytest.mark.oddity("other-field-of-view")),
    ],
)
def test_strange_scans_are_named_by_kind(
    encoder: Path, cohort: Path, tmp_path: Path, change: strange.Change, kinds: list[str]
):
    manifest = strange.changed(cohort, tmp_path / "scans", change)
    table, said = embedded(encoder, manifest, tmp_path / "f.csv")
    assert len(table) == 4
    for kind in kinds:
        (sentence,) = [text for text in said if WORDS[kind] in text]
        assert sentence.startswith("4 of 4 scans look unlike the ")
        assert "manifest.csv row " in sentence
    assert len(said) == len(kinds), said
    assert table.meta["unlike"].min() > 0.97
    assert table.provenance["unlike"] == said


@pytest.mark.oddity("stored-in-another-orientation")
def test_another_orientation_with_a_right_header_is_said_and_harms_nothing(encoder: Path, cohort: Path, tmp_path: Path):
    plain, said = embedded(encoder, strange.changed(cohort, tmp_path / "plain", strange.same), tmp_path / "plain.csv")
    assert said == []
    manifest = strange.changed(cohort, tmp_path / "turned", strange.turned_known)
    table, said = embedded(encoder, manifest, tmp_path / "f.csv", strict=True)
    (sentence,) = said
    assert sentence.startswith("4 of 4 scans are stored in an orientation that no training scan had")
    assert "training RAS" in sentence
    np.testing.assert_array_equal(table.values, plain.values)
    np.testing.assert_array_equal(table.meta["unlike"], plain.meta["unlike"])


def test_ordinary_scans_are_not_named_and_spread_like_held_out_ones(encoder: Path, cohort: Path, tmp_path: Path):
    own, said = embedded(encoder, cohort, tmp_path / "own.csv")
    assert said == []
    manifest = draw_cohort(tmp_path / "others", subjects=24, sites=4, seed=77)
    others, said = embedded(encoder, manifest, tmp_path / "others.csv")
    assert sum(int(sentence.split()[0]) for sentence in said) <= 2, said
    for unlike in (own.meta["unlike"], others.meta["unlike"]):
        assert ((unlike >= 0) & (unlike <= 1)).all()
        assert (unlike > 0.95).mean() <= 0.2
        assert 0.2 < np.median(unlike) < 0.9


@pytest.mark.oddity("encoder-without-likeness")
@pytest.mark.parametrize("suffix", [".csv", ".npz"])
def test_the_column_survives_the_file_and_the_features_do_not_change(
    encoder: Path, cohort: Path, tmp_path: Path, suffix: str
):
    assert len(json.dumps(read_card(encoder))) < 300_000
    bare = strange.encoder_on(cohort, tmp_path / "bare.safetensors", likeness=None)
    table, said = embedded(bare, cohort, tmp_path / f"bare{suffix}")
    assert "does not say what its training scans looked like" in said[0]
    assert "unlike" not in table.meta
    assert "unlike" not in table.provenance
    full, _ = embedded(encoder, cohort, tmp_path / f"full{suffix}")
    np.testing.assert_array_equal(full.values, table.values)
    again = FeatureTable.read(tmp_path / f"full{suffix}")
    assert again.meta["unlike"].tolist() == full.meta["unlike"].tolist()
    assert again.values.shape == full.values.shape


def test_strict_refuses_before_anything_is_written(encoder: Path, cohort: Path, tmp_path: Path):
    manifest = strange.changed(cohort, tmp_path / "scans", strange.inverted)
    with pytest.raises(UserError, match=r"^4 of 4 scans look unlike .*contrast inverted.*--strict"):
        embedded(encoder, manifest, tmp_path / "out" / "f.csv", strict=True)
    assert list((tmp_path / "out").iterdir()) == []
    _, first = embedded(encoder, manifest, tmp_path / "out" / "f.csv")
    with pytest.raises(UserError, match=r"is there already: 4 of 4 scans look unlike"):
        embedded(encoder, manifest, tmp_path / "out" / "f.csv", strict=True)
    _, again = embedded(encoder, manifest, tmp_path / "out" / "f.csv")
    assert again == first != [], "a table that is used again says the same"
    bare = strange.encoder_on(cohort, tmp_path / "bare.safetensors", likeness=None)
    with pytest.raises(UserError, match="does not say what its training scans looked like"):
        embedded(bare, manifest, tmp_path / "out" / "g.csv", strict=True)


def test_an_interrupted_embedding_still_knows_what_the_scans_look_like(
    encoder: Path, cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from medssl.features import embed as module

    whole, _ = embedded(encoder, cohort, tmp_path / "whole.csv")
    monkeypatch.setattr(module, "PART", 16)
    plain = Likeness.far
    calls = []

    def stop(self: Likeness, features: np.ndarray) -> np.ndarray:
        calls.append(len(features))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return plain(self, features)

    monkeypatch.setattr(Likeness, "far", stop)
    with pytest.raises(KeyboardInterrupt):
        embedded(encoder, cohort, tmp_path / "f.csv")
    assert len(list(tmp_path.glob(".f.csv.parts/*.npz"))) == 1
    table, _ = embedded(encoder, cohort, tmp_path / "f.csv")
    assert sum(calls[2:]) == 24
    np.testing.assert_array_equal(table.meta["unlike"], whole.meta["unlike"])


def test_features_far_from_the_training_scans_are_named_where_nothing_else_is(encoder: Path, cohort: Path):
    likeness = Likeness.from_dict(read_card(encoder)["likeness"])
    assert likeness is not None
    assert likeness.cloud is not None
    looks = np.column_stack([np.tile(likeness.centre, (3, 1)), np.full(3, float(likeness.orientations[0]))])
    mean, sd = likeness.cloud.mean, likeness.cloud.sd
    far = likeness.far(np.stack([mean, mean + 0.5 * sd, mean + 30 * sd]))
    found = judge(likeness, looks, far, lambda row: f"row {row}")
    (notice,) = found.notices
    assert notice.kind == "features"
    assert notice.rows.tolist() == [2]
    assert "1 of 3 scans looks unlike" in notice.text
    assert "row 2, whose features lie " in notice.text
    assert notice.text.endswith("look at it before you trust its features")
    assert found.unlike[2] > 0.97 > found.unlike[1]


@pytest.mark.oddity("shifted-as-a-whole")
def test_a_site_whose_scans_all_lie_a_little_off_is_told_of_as_a_whole(encoder: Path):
    likeness = Likeness.from_dict(read_card(encoder)["likeness"])
    assert likeness is not None
    looks = np.column_stack([np.tile(likeness.centre, (36, 1)), np.full(36, float(likeness.orientations[0]))])
    places = ["A"] * 12 + ["B"] * 24
    far = np.zeros(36)
    off = 0.999 * likeness.limits[-1]
    far[[0, *range(12, 22)]] = off  # 1 of 12 at A, 10 of 24 at B; none is named by itself
    found = judge(likeness, looks, far, lambda row: f"row {row}", places)
    assert (found.unlike[far > 0] > 0.95).all()
    (notice,) = found.notices
    assert notice.rows.tolist() == list(range(12, 22))
    assert notice.text.startswith("10 of 24 scans of B lie farther off than 95% of the held-out training scans")
    assert found.refusal is not None
    far[23] = 3 * likeness.limits[-1]  # is named by itself, and the sentence on the site says so
    both = judge(likeness, looks, far, lambda row: f"row {row}", places).sentences
    assert "10 of the other 23 scans of B (24 in all) lie farther off than" in both[1]
    far[23] = 0.0
    far[18:] = 0.0
    assert judge(likeness, looks, far, lambda row: "", places).notices == ()  # 6 of 24 may be chance
    assert judge(likeness, looks[:9], np.full(9, off), lambda row: "").notices == ()  # too few to tell


@pytest.mark.parametrize("damage", [{}, {"version": 99}, {"limits": "x"}, {"features": {"mean": "%%"}}])
def test_a_card_entry_of_another_kind_is_taken_as_absent(encoder: Path, damage: dict[str, object]):
    entry = read_card(encoder)["likeness"]
    assert Likeness.from_dict(entry) is not None
    assert Likeness.from_dict({**entry, **damage} if damage else {}) is None


def test_too_few_training_scans_say_nothing():
    rng = np.random.default_rng(0)
    looks = np.zeros((40, 0))
    h = rng.normal(size=(40, 6))
    assert Likeness.fit(looks, h, [f"s{k}" for k in range(40)]) is not None
    assert Likeness.fit(looks[:19], h[:19], [f"s{k}" for k in range(19)]) is None
    assert Likeness.fit(looks, h, ["a", "b", "c", "d"] * 10) is None
