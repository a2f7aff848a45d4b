from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from medssl.errors import RecipeError
from medssl.recipe.catalog import CATALOG
from medssl.recipe.model import Recipe, file_digest, load_recipe, parse_recipe, recipe_path
from medssl.recipe.overrides import apply_override, assigned


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", [*CATALOG, "demo"])
def test_every_shipped_recipe_passes_its_own_checks(name: str):
    recipe = load_recipe(name)
    assert name in (recipe.method.name, "demo")
    assert recipe.data.preprocessing.mask == "nonzero"
    assert recipe_path(name).read_text().splitlines()[0].startswith("# ")


@pytest.mark.parametrize(
    ("override", "key", "near"),
    [
        ("optim.lrr=1e-3", "optim.lrr", "optim.lr"),
        ("triner.epochs=3", "triner", "trainer"),
        ("trainer.epoch=3", "trainer.epoch", "trainer.epochs"),
        ("data.preprocessing.spaceing=2", "data.preprocessing.spaceing", "data.preprocessing.spacing"),
        ("data.manifests=[{path: a.csv, wieght: 2}]", "data.manifests.0.wieght", "data.manifests.0.weight"),
        ("optim.players={critic: {ler: 1}}", "optim.players.critic.ler", "optim.players.critic.lr"),
        ("monitors.evry=2", "monitors.evry", "monitors.every"),
        ("method.temprature=0.2", "method.temprature", "method.temperature"),
        ("views.devise=loader", "views.devise", "views.device"),
        ("encoder.widht=8", "encoder.widht", "encoder.width"),
    ],
)
def test_an_unknown_key_names_the_nearest_known_one(override: str, key: str, near: str):
    with pytest.raises(RecipeError) as caught:
        load_recipe("exponential", [override])
    assert key in str(caught.value)
    assert f"did you mean '{near}'?" in str(caught.value)
    assert f"override '{override}'" in str(caught.value)


@pytest.mark.parametrize(
    ("override", "near"),
    [
        ("views.policy=robst", "robust"),
        ("encoder=resnet19", "resnet18"),
        ("encoder.name=resnet19", "resnet18"),
        ("method.kernels.age.kernel=rbff", "rbf"),
        ("method.kernels.age.bandwith=2", "method.kernels.age.bandwidth"),
        ("method.kernels={sex: {stric: true}}", "method.kernels.sex.strict"),
    ],
)
def test_an_unknown_name_blames_its_override_and_names_the_nearest(override: str, near: str):
    extra = ["method.kernels.sex.kernel=box"] if near.endswith("strict") else []
    with pytest.raises(RecipeError) as caught:
        load_recipe("exponential", [override, *extra])
    assert re.search(rf"did you mean '{re.escape(near)}'\?", str(caught.value))
    assert str(caught.value).startswith(f"override '{override}'")
    assert "\n" not in str(caught.value)


def test_a_product_over_one_column_and_arguments_of_another_kernel_are_refused():
    with pytest.raises(RecipeError, match=r"method\.kernels\.age\.kernel is 'product', which is unknown"):
        load_recipe("exponential", ["method.kernels.age.kernel=product"])
    with pytest.raises(RecipeError, match=r"method\.kernels\.sex\.sigma is no argument of 'categorical'"):
        load_recipe("y_aware", ["method.kernels={sex: {kernel: categorical, sigma: 2}}"])


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("optim.lr=fast", "optim.lr", "'fast'"),
        ("optim.lr=", "optim.lr", "None"),
        ("trainer.epochs=2.5", "trainer.epochs", "2.5"),
        ("trainer.precision=8-bit", "trainer.precision", "'8-bit'"),
        ("trainer.devices=x", "trainer.devices'", "'x'"),
        ("data.batch_size=[8]", "data.batch_size", "[8]"),
        ("data.preprocessing.intensity=histogram", "data.preprocessing.intensity", "'histogram'"),
        ("data.manifests=a.csv", "data.manifests", "'a.csv'"),
        ("views.policy=3", "views.policy'", "3"),
        ("optim.betas=[0.9, 1.5]", "optim.betas.1", "1.5"),
        ("method.temperature=hot", "method.temperature", "'hot'"),
        ("method.projector=[16, wide]", "method.projector", "wide"),
        ("method=3", "method", "3"),
        ("optim=3", "optim", "a mapping of keys is needed: name, lr, weight_decay"),
        (
            "trainer.epochs=yes",
            "trainer.epochs",
            "is True, but it must be a whole number",
        ),
    ],
)
def test_a_wrong_type_names_the_key_and_the_value(override: str, key: str, value: str):
    with pytest.raises(RecipeError) as caught:
        load_recipe("exponential", [override])
    assert key in str(caught.value)
    assert value in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "override",
    [
        "trainer.epochs=0", "trainer.accumulate=0", "trainer.log_steps=0", "trainer.seed=-1", "trainer.clip=-1",
        "trainer.keep_checkpoints=0", "trainer.devices=0", "optim.lr=0", "optim.lr=-1e-3", "optim.lr=.inf",
        "optim.lr=.nan", "optim.weight_decay=-1", "optim.every_epochs=0", "optim.players={critic: {every: 0}}",
        "monitors.holdout=1.0", "monitors.holdout=0", "monitors.every=-1", "data.batch_size=0", "data.workers=-1",
        "data.manifests=[{path: a.csv, weight: 0}]", "optim.lr=true", "trainer.epochs=yes", "data.workers=true",
    ],
)  # fmt: skip
def test_an_impossible_number_is_refused_before_anything_is_read(override: str):
    with pytest.raises(RecipeError, match=override.split("=")[0]):
        load_recipe("exponential", [override])


def test_numbers_in_scientific_notation_are_numbers_with_and_without_a_dot(tmp_path: Path):
    path = written(tmp_path, "method: simclr\noptim: {lr: 1e-3, weight_decay: 5.e-5, final_lr: 1E-06}\n")
    recipe = load_recipe(path, ["optim.gamma=5e-1"])
    assert (recipe.optim.lr, recipe.optim.weight_decay, recipe.optim.final_lr) == (1e-3, 5e-5, 1e-6)
    assert recipe.optim.gamma == 0.5


def test_dotted_overrides_reach_mappings_lists_and_absent_parts(tmp_path: Path):
    path = written(
        tmp_path,
        "method: {name: exponential}\n"
        "views: {policy: [{flip: {p: 0.5}}, zscore]}\n"
        "data: {manifests: [{path: a.csv}, {path: b.csv, weight: 2}]}\n",
    )
    recipe = load_recipe(
        path,
        [
            "views.policy.0.flip.p=0.25",
            "data.manifests.1.weight=4",
            "data.preprocessing.spacing=[2, 2, 2]",
            "method.kernels.age.kernel=box",
            "method.kernels.age.bandwidth=3",
            "optim.players.loss.lr=0.5",
            "trainer.clip=null",
        ],
    )
    assert recipe.views.policy == [{"flip": {"p": 0.25}}, "zscore"]
    assert recipe.data.sources == [{"path": "a.csv", "weight": 1.0}, {"path": "b.csv", "weight": 4.0}]
    assert recipe.data.preprocessing.spacing == (2.0, 2.0, 2.0)
    assert recipe.method.arguments == {"kernels": {"age": {"kernel": "box", "bandwidth": 3}}}
    assert recipe.optim.players["loss"].lr == 0.5
    assert recipe.trainer.clip is None


def test_a_bare_name_replaces_method_and_encoder(tmp_path: Path):
    recipe = load_recipe("exponential", ["method=moco", "method.queue=64", "encoder=densenet121"])
    assert (recipe.method.name, recipe.method.arguments) == ("moco", {"queue": 64})
    assert (recipe.encoder.name, recipe.encoder.arguments) == ("densenet121", {})
    short = written(tmp_path, "method: exponential\nencoder: resnet18\n")
    assert load_recipe(short, ["method.temperature=0.2"]).method.arguments == {"temperature": 0.2}


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("optim.lr", "must read key=value"),
        ("=3", "must read key=value"),
        ("scans/split.csv", "such as data.manifest=scans/split.csv"),
        ("optim.lr=[1", "no valid YAML"),
        ("optim.lr.more=3", "'more' is not inside a mapping"),
        ("data.preprocessing.spacing.7=x", "'7' is not inside a mapping"),
        ("method.loss=y_aware", "fixed by the name 'exponential'"),
        ("method=expnential", "did you mean 'exponential'"),
        ("encoder=resnet19", "resnet18"),
        ("views.policy=robustt", "robust"),
        ("views.policy=[flop]", "flip"),
    ],
)
def test_an_override_that_cannot_be_applied_says_why(override: str, words: str):
    with pytest.raises(RecipeError, match=words):
        load_recipe("exponential", [override])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"- method\n- optim\n", "a recipe is a mapping"),
        (b"", "a recipe is a mapping"),
        (b"method: [simclr\noptim: 3\n", "line 2: this is no valid YAML"),
        (b"method: \xff\xfe\n", "no UTF-8 text"),
        (b"optim: {lr: 1.0e-3}\n", "'method' is missing"),
        (b"method: {temperature: 0.1}\n", "'method.name' is missing"),
        (b"method: !!python/object/apply:os.system ['true']\n", "the tag !!python/object/apply:os.system is not"),
    ],
)
def test_a_broken_recipe_file_is_named_with_its_line(tmp_path: Path, content: bytes, words: str):
    path = tmp_path / "broken.yaml"
    path.write_bytes(content)
    with pytest.raises(RecipeError, match=words) as caught:
        load_recipe(path)
    assert "broken.yaml" in str(caught.value)


def test_a_recipe_that_does_not_exist_is_told_from_an_unknown_method():
    with pytest.raises(RecipeError, match=r"nowhere\.yaml does not exist"):
        load_recipe("nowhere.yaml")
    with pytest.raises(RecipeError, match="unknown method 'simcrl'; did you mean 'simclr'"):
        load_recipe("simcrl")


def test_the_resolved_recipe_reads_back_as_the_same_recipe(tmp_path: Path):
    recipe = load_recipe("bigan", ["optim.players={critic: {lr: 1e-4, every: 2}}", "output=somewhere"])
    again = load_recipe(written(tmp_path, recipe.to_yaml()))
    assert again == recipe
    assert again.digest == recipe.digest


def test_the_digest_ignores_the_output_folder_and_sees_everything_else():
    plain: dict[str, Any] = {"method": "simclr"}
    digests = {
        parse_recipe({**plain, **more}).digest
        for more in ({}, {"optim": {"lr": 0.5}}, {"trainer": {"seed": 1}}, {"data": {"manifest": "x"}})
    }
    assert len(digests) == 4
    assert parse_recipe({**plain, "output": "a"}).digest == parse_recipe(plain).digest


@pytest.mark.parametrize("name", [*CATALOG, "demo"])
def test_the_digest_of_a_resolved_file_is_that_of_its_recipe(name: str, tmp_path: Path):
    recipe = load_recipe(name, ["output=somewhere", "optim.lr=1e-7"])
    path = written(tmp_path, recipe.to_yaml())
    assert file_digest(path) == recipe.digest
    path.write_text(recipe.to_yaml().replace("  threads: null\n", ""))
    assert load_recipe(path) == recipe, "a file of an earlier version lacks a later key"


def test_a_recipe_cannot_be_changed_behind_its_digest():
    recipe = parse_recipe({"method": "simclr"})
    with pytest.raises(ValueError, match="frozen"):
        recipe.output = "elsewhere"
    assert isinstance(recipe, Recipe)


def test_what_becomes_of_nan_is_a_key_that_leaves_older_digests_as_they_are():
    plain = load_recipe("exponential")
    assert plain.digest == "e96b5768e13f29de2311bbd826316e75476cf0bf8dafe5fb969a75124131ea58"
    assert "nan" not in plain.to_yaml()
    assert load_recipe("exponential", ["data.preprocessing.nan=error"]).digest == plain.digest
    asked = load_recipe("exponential", ["data.preprocessing.nan=zero"])
    assert asked.digest != plain.digest
    assert parse_recipe(asked.to_dict()) == asked
    assert asked.data.preprocessing.model_dump() == {**plain.data.preprocessing.model_dump(), "nan": "zero"}
    with pytest.raises(RecipeError, match=r"data\.preprocessing\.nan.*'error' or 'zero'"):
        load_recipe("exponential", ["data.preprocessing.nan=ignore"])


@pytest.mark.parametrize(
    "path", ["a: b/c", "a #b", "[x", "{y", "'q", "yes", "1e-3", "~", "é 🧠", "*x", "!!z", "a\\b", ""]
)
def test_a_path_given_by_a_program_is_kept_letter_for_letter(path: str):
    content: dict = {}
    apply_override(content, assigned("data.manifest", Path(path) if path else ""))
    assert content == {"data": {"manifest": str(Path(path)) if path else ""}}
