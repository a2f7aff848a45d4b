from __future__ import annotations

import hashlib
import os

import pytest
import safetensors.torch
import torch

import medssl
from medssl.encoders import build_encoder
from medssl.encoders.file import CARD_VERSION, load_encoder, read_card, save_encoder, weights_digest
from medssl.errors import UserError

from .checks import scans, tiny

CARD = {"training": {"sites": ["b", "a"], "age": [6.0, 40.0, 90.0]}, "name": "Zürich", "licence": "CC-BY-4.0"}


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "encoder.safetensors"
    save_encoder(tiny("resnet18"), path, CARD)
    return path


def rewrite(path, change_weights=lambda w: w, **card):
    """Change card and weights as an older medssl would have written them: without checksums."""
    import json

    with safetensors.safe_open(path, framework="pt") as file:
        old = json.loads(file.metadata()["medssl_card"])
        old.pop("sha256", None)
        weights = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    text = json.dumps({**old, **card})
    safetensors.torch.save_file(change_weights(weights), path, {"medssl_card": text})


def test_card_holds_what_the_caller_said_and_what_the_encoder_is(saved):
    card = read_card(saved)
    encoder = tiny("resnet18")
    assert {k: card[k] for k in CARD} == CARD
    assert card["encoder"] == encoder.spec
    assert card["dim"] == encoder.dim
    assert card["weights_sha256"] == weights_digest(encoder)
    assert card["medssl_version"] == medssl.__version__
    assert card["card_version"] == CARD_VERSION


def test_licence_is_always_there(tmp_path):
    save_encoder(tiny("mlp"), tmp_path / "e.safetensors", {})
    assert read_card(tmp_path / "e.safetensors")["licence"] == "not stated"


def test_same_encoder_and_card_give_the_same_bytes(tmp_path):
    digests = []
    for i, card in enumerate((CARD, dict(reversed(CARD.items())))):
        path = tmp_path / str(i) / "e.safetensors"
        save_encoder(tiny("resnet18"), path, card)
        digests.append(hashlib.sha256(path.read_bytes()).hexdigest())
    assert digests[0] == digests[1]


def test_digest_sees_values_names_and_statistics():
    one, two = tiny("resnet18"), tiny("resnet18")
    assert weights_digest(one) == weights_digest(two)
    two.stem[1].running_mean[0] += 1e-6
    assert weights_digest(one) != weights_digest(two)
    assert weights_digest(one) != weights_digest(tiny("resnet18", norm="group"))
    assert weights_digest(one.to(torch.bfloat16)) != weights_digest(tiny("resnet18"))


def test_loading_leaves_the_random_generator_alone(saved):
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    load_encoder(saved)
    assert torch.equal(torch.rand(3), expected)


def test_a_run_folder_stands_for_its_encoder_and_the_package_exports_the_loader(saved):
    encoder = medssl.load_encoder(saved.parent)
    assert not encoder.training
    x = scans(encoder)
    assert torch.equal(encoder(x).pooled, tiny("resnet18").eval()(x).pooled)
    assert read_card(saved.parent) == read_card(saved)


def test_resaving_a_card_that_was_read_is_a_fixed_point(saved, tmp_path):
    save_encoder(load_encoder(saved), tmp_path / "copy.safetensors", read_card(saved))
    assert (tmp_path / "copy.safetensors").read_bytes() == saved.read_bytes()


@pytest.mark.parametrize("act", [load_encoder, read_card])
def test_bad_files_are_one_sentence_with_their_name(saved, tmp_path, act):
    whole = saved.read_bytes()
    bad = {
        "text.safetensors": b"participant_id,image\n01,a.nii\n",
        "empty.safetensors": b"",
        "cut.safetensors": whole[: len(whole) // 2],
        "head.safetensors": whole[:200],
    }
    for name, data in bad.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UserError, match=f"{name}: is no complete safetensors file") as caught:
            act(tmp_path / name)
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"none\.safetensors: there is no such file"):
        act(tmp_path / "none.safetensors")
    safetensors.torch.save_file({"w": torch.zeros(2)}, tmp_path / "plain.safetensors")
    with pytest.raises(UserError, match=r"plain\.safetensors: holds weights but no medssl_card"):
        act(tmp_path / "plain.safetensors")
    safetensors.torch.save_file({"w": torch.zeros(2)}, tmp_path / "odd.safetensors", {"medssl_card": "{"})
    with pytest.raises(UserError, match=r"odd\.safetensors: its medssl_card is damaged"):
        act(tmp_path / "odd.safetensors")
    safetensors.torch.save_file({"w": torch.zeros(2)}, tmp_path / "less.safetensors", {"medssl_card": "{}"})
    with pytest.raises(UserError, match=r"less\.safetensors: its card names no encoder"):
        act(tmp_path / "less.safetensors")


def test_newer_card_asks_for_an_update(saved):
    rewrite(saved, card_version=CARD_VERSION + 1)
    with pytest.raises(UserError, match=r"encoder\.safetensors: its card has version .*update medssl"):
        load_encoder(saved)


def test_weights_of_another_architecture_are_refused(saved):
    for spec in (tiny("resnet50").spec, tiny("resnet18", width=8).spec, tiny("resnet18", norm="group").spec):
        rewrite(saved, encoder=spec)
        with pytest.raises(UserError, match=r"encoder\.safetensors: its weights do not fit the resnet") as caught:
            load_encoder(saved)
        assert "\n" not in str(caught.value)


def test_a_spec_that_cannot_be_built_is_refused(saved):
    for spec in ({"name": "transmogrifier"}, {"name": "resnet18", "beams": 3}):
        rewrite(saved, encoder=spec)
        with pytest.raises(UserError, match=r"encoder\.safetensors: its card names an encoder that cannot be built"):
            load_encoder(saved)


def test_a_card_of_another_form_is_named_by_its_key(saved):
    for change, words in (
        ({"encoder": {}}, "its card: encoder lacks the key 'name'"),
        ({"images": "image"}, "its card: images is the text 'image', but a list is needed"),
        ({"recipe": {"trainer": {"seed": "x"}}}, "its card: recipe.trainer.seed is the text 'x', but a whole number"),
        ({"recipe": {"data": {"manifests": [{}]}}}, r"its card: recipe.data.manifests\[0\] lacks the key 'path'"),
    ):
        rewrite(saved, **({"recipe": {}} | change))
        with pytest.raises(UserError, match=rf"encoder\.safetensors: {words}"):
            read_card(saved)
        rewrite(saved, encoder=tiny("resnet18").spec, images=["image"])


def test_changed_weights_are_refused(saved):
    def change(weights):
        name = sorted(weights)[0]
        return {**weights, name: weights[name] + 1}

    rewrite(saved, change)
    with pytest.raises(UserError, match=r"encoder\.safetensors: its weights are not those"):
        load_encoder(saved)


def test_cards_must_be_json_and_nothing_is_left_behind(tmp_path):
    path = tmp_path / "e.safetensors"
    for card in ({"mae": float("nan")}, {"path": path}):
        with pytest.raises(UserError, match=r"e\.safetensors: the card is not plain JSON"):
            save_encoder(tiny("mlp"), path, card)
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="is a folder; give a file name"):
        save_encoder(tiny("mlp"), tmp_path / "folder", {})
    assert sorted(os.listdir(tmp_path)) == ["folder"]


def test_an_encoder_without_spec_cannot_be_saved(tmp_path):
    with pytest.raises(UserError, match="a Linear cannot be saved"):
        save_encoder(torch.nn.Linear(2, 2), tmp_path / "e.safetensors", {})
    assert build_encoder("mlp", shape=3).spec["name"] == "mlp"
