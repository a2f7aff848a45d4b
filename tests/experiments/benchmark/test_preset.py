from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from medssl.errors import RecipeError
from medssl.experiments.benchmark.preset import FAIR, cells, load_preset
from medssl.recipe.model import config_file, load_recipe


@pytest.mark.parametrize("name", ["roi", "synthetic", "full"])
def test_every_shipped_preset_has_valid_recipes_and_a_smaller_quick_form(name: str):
    preset = load_preset(name)
    quick = preset.reduced()
    assert preset.seeds >= 3
    assert len(list(cells(quick))) < len(list(cells(preset))) / 3
    assert {"l1", "y-aware", "L_thr", "L_exp", "SimCLR"} <= set(preset.rows)
    assert len({cell.name for cell in cells(preset)}) == len(list(cells(preset)))


def test_a_row_is_the_recipe_with_its_overrides_and_its_twin_adds_fairkl():
    preset = load_preset("roi")
    plain = load_recipe(preset.recipe, preset.overrides("SupCon (2-year bins)", "mlp"))
    fair = load_recipe(preset.recipe, preset.overrides("SupCon (2-year bins)" + FAIR, "mlp"))
    assert plain.method.name == "y_aware"
    assert plain.method.arguments["kernels"] == {"age_bin": {"kernel": "delta"}}
    assert plain.regularizers == ()
    assert [r.name for r in fair.regularizers] == ["fair_kl"]
    assert fair.data.balance == "site"
    assert fair.method == plain.method


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rowz": {}}, "rowz"),
        ({"harmonized": ["l9"]}, "harmonized names 'l9'"),
        ({"designs": {"random": 2}}, "design 'random'"),
        ({"rows": {"l1": ["method={name: l1_agee}"]}}, "l1_age"),
        ({"seeds": 0}, "seeds"),
        ({"only": {"mlp": ["l9"]}}, "only.mlp names 'l9'"),
        ({"only": {"cnn": ["l1"]}}, "'cnn' is no encoder"),
        ({"design_seeds": {"split": 1}}, "design 'split'"),
        ({"encoders": {"../../../../x": ["encoder=mlp"]}, "only": {}}, "the encoder '../../../../x' holds a character"),
        ({"encoders": {"/tmp/x": []}, "only": {}}, "the encoder '/tmp/x' holds a character"),
        ({"encoders": {"..": []}, "only": {}}, "the encoder '..' begins with a dot"),
        ({"encoders": {"": []}, "only": {}}, "the encoder '' is empty"),
        ({"encoders": {"mlp": [], "MLP": []}, "only": {}}, "'mlp' would have the same file name as 'MLP'"),
        ({"rows": {"L exp": [], "L-exp": []}, "only": {}}, "the row 'L-exp' would have the same file name as 'L exp'"),
        ({"rows": {"x" * 300: []}, "only": {}}, "is longer than 120 bytes"),
    ],
)
def test_a_wrong_preset_is_named_before_anything_runs(change: dict, words: str, tmp_path: Path):
    path = config_file("benchmark", "openbhb-roi")
    assert path is not None
    content = yaml.safe_load(path.read_text()) | {"quick": {"rows": [], "encoders": ["mlp"], "designs": []}}
    content |= {"regularised": [], "harmonized": [], **change}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(RecipeError, match=words):
        load_preset(str(tmp_path / "mine.yaml"))


def test_an_encoder_has_its_own_rows_and_a_design_its_own_seeds():
    preset = load_preset("roi")
    changes = {"rows": {"l1": (), "L_exp": ()}, "regularised": ("L_exp",), "encoders": {"mlp": (), "small": ()}}
    few = preset.model_copy(
        update=changes
        | {"only": {"small": ("l1",)}, "designs": {"challenge": 2, "sites": 1}, "design_seeds": {"sites": 1}}
    )
    plan = [(c.seed, c.design, c.fold, c.encoder, c.row) for c in cells(few)]
    assert sum(encoder == "small" for *_, encoder, _ in plan) == 3 * 2 + 1
    assert {row for *_, encoder, row in plan if encoder == "small"} == {"l1"}
    assert {row for *_, encoder, row in plan if encoder == "mlp"} == {"l1", "L_exp", "L_exp" + FAIR}
    assert {seed for seed, design, *_ in plan if design == "sites"} == {0}
    assert {seed for seed, design, *_ in plan if design == "challenge"} == {0, 1, 2}


def test_an_unknown_preset_names_the_known_ones():
    with pytest.raises(RecipeError, match="no benchmark preset 'openbhb'; known: synthetic, roi, full"):
        load_preset("openbhb")


@pytest.mark.parametrize("key", ["rows", "encoders", "designs"])
def test_a_quick_form_that_trains_nothing_is_refused_where_it_is_asked_for(key: str):
    preset = load_preset("roi")
    empty = preset.model_copy(update={"quick": preset.quick.model_copy(update={key: ()})})
    with pytest.raises(
        RecipeError, match=rf"quick\.{key} of '.*' is empty, so nothing would be trained; name at least"
    ):
        empty.reduced()
