"""YAML is read as plain values within limits, or refused in one sentence that names file and line."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from medssl.documents import yaml_file
from medssl.documents.yaml_file import parse_yaml, read_yaml, to_yaml
from medssl.errors import RecipeError
from medssl.experiments.benchmark.preset import load_preset
from medssl.experiments.study.plan import load_study
from medssl.recipe.model import load_recipe
from medssl.recipe.overrides import apply_override


def multiplied(first: str, each: str) -> str:
    """Nine references to nine references to ...: 500 bytes that stand for 430 million values."""
    return f"a0: &a0 {first}\n" + "".join(f"a{i}: &a{i} {each % ','.join([f'*a{i - 1}'] * 9)}\n" for i in range(1, 10))


WRONG = {
    "aliases that multiply": (multiplied("[x,x,x,x,x,x,x,x,x]", "[%s]"), "line 5: there are more than 20000 values"),
    "merges that multiply": (multiplied("{x: 1}", "{<<: [%s]}"), "line 5: there are more than 20000 values"),
    "a list in itself": ("a: 1\nb: &b [*b]\n", "line 2: *b stands inside itself"),
    "a mapping merged into itself": ("b: &b {<<: *b}\n", "line 1: *b stands inside itself"),
    "brackets": ("a: " + "[" * 2000 + "]" * 2000, "line 1: there are more than 64 levels"),
    "braces": ("{a: " * 2000, "line 1: there are more than 64 levels"),
    "blocks": ("".join(" " * i + "a:\n" for i in range(100)), "there are more than 64 levels"),
    "dashes": ("- " * 2000, "there are more than 64 levels"),
    "levels by reference": ("a0: &a0 [1]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 90)), "64 levels"),
    "size": ("a: 1\n" * 60_000, "is longer than 256 KiB"),
    "a key twice": ("a: 1\nb: 2\na: 3\n", "line 3: the key 'a' stands twice"),
    "an inner key twice": ("a: 1\nm: {x: 1, x: 2}\n", "line 2: the key 'x' stands twice"),
    "a number as a key": ("1: a\n", "line 1: the key '1' is no text"),
    "yes as a key": ("yes: a\n", "line 1: the key 'yes' is no text"),
    "null as a key": ("~: a\n", "line 1: the key '~' is no text"),
    "a list as a key": ("? [a]\n: b\n", "line 1: a key is a list or mapping"),
    "python": ("a: !!python/object/apply:os.system [x]\n", "line 1: the tag !!python/object/apply:os.system is not"),
    "an own tag": ("a: !foo bar\n", "line 1: the tag !foo is not allowed"),
    "a set": ("a: !!set {x, y}\n", "line 1: the tag !!set is not allowed"),
    "bytes": ("a: !!binary aGk=\n", "line 1: the tag !!binary is not allowed"),
    "no integer": ("a: !!int x\n", "line 1: 'x' cannot be read as int"),
    "no boolean": ("a: !!bool maybe\n", "line 1: 'maybe' cannot be read as bool"),
    "an empty number": ("a: 0x_\n", "line 1: '0x_' cannot be read as int"),
    "5,000 digits": ("a: " + "9" * 5000, "line 1: the whole number 99999999999999999999 is too large"),
    "5,000 hexadecimal digits": ("a: 0x" + "f" * 5000, "line 1: the whole number 0xffff"),
    "NUL": ("a: 1\nb: \0\n", "line 2: this is no valid YAML (it holds the character 0x0"),
    "NUL written out": ('a: "\\0"\n', "holds text with a NUL"),
    "half a character": ('a: "\\ud800"\n', "holds text with a NUL or half a character"),
    "two documents": ("a: 1\n---\nb: 2\n", "line 2: a second document begins"),
    "cut off": ('a: "b\n', "this is no valid YAML (found end of stream)"),
    "a reference to nothing": ("a: *b\n", "this is no valid YAML (found undefined alias 'b')"),
    "a merge of text": ("a: {<<: b}\n", "this is no valid YAML"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_breaks_a_limit_or_a_rule_is_one_sentence(name: str, tmp_path: Path) -> None:
    text, reason = WRONG[name]
    path = tmp_path / "odd.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError) as caught:
        read_yaml(path)
    said = str(caught.value)
    assert said.startswith(str(path))
    assert reason in said
    assert "\n" not in said
    assert "unexpected" not in said


@pytest.mark.parametrize("read", [load_recipe, load_preset, load_study])
def test_recipes_presets_and_studies_have_the_same_reader(read: Callable[[str], object], tmp_path: Path) -> None:
    path = tmp_path / "odd.yaml"
    for text, reason in WRONG.values():
        path.write_text(text, encoding="utf-8")
        with pytest.raises(RecipeError) as caught:
            read(str(path))
        assert reason in str(caught.value)


@pytest.mark.parametrize(
    "value", ["[" * 2000, "&a [*a]", "!!python/name:os.system", "{1: 2}", "9" * 5000, "\0", "a: a: a"]
)
def test_values_of_overrides_have_the_same_reader(value: str) -> None:
    with pytest.raises(RecipeError, match=r"^override 'method\.x=") as caught:
        apply_override({}, f"method.x={value}")
    assert len(str(caught.value)) < 400


def test_plain_values_are_what_they_were(tmp_path: Path) -> None:
    text = (
        "base: &base {lr: 0.1, betas: [0.9, 0.95]}\n"
        "other: {<<: *base, lr: 0.2}\n"
        "same: *base\n"
        "outer: {inner: &inner {<<: *base, lr: 3}}\n"
        "later: {<<: *inner}\n"
        "numbers: [-5, 0x10, 1_000, 1.5, .inf, 1e-3, -2E5, .5e1]\n"
        "words: [yes, 'no', ~, 2020-01-01, é, '1e-3', e5]\n"
    )
    path = tmp_path / "a.yaml"
    path.write_text("\ufeff" + text, encoding="utf-8")
    content = read_yaml(path)
    assert content["other"] == {"lr": 0.2, "betas": [0.9, 0.95]}
    assert content["later"] == {"lr": 3, "betas": [0.9, 0.95]}
    assert content["numbers"] == [-5, 16, 1000, 1.5, math.inf, 0.001, -2e5, 5.0]
    assert content["words"] == [True, "no", None, "2020-01-01", "é", "1e-3", "e5"]
    content["same"]["betas"].append(1)
    assert content["base"]["betas"] == [0.9, 0.95], "a reference is a copy, so an override changes one place"
    assert parse_yaml(to_yaml(content), "again") == content


def test_a_path_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="is no file"):
        read_yaml(tmp_path)
    with pytest.raises(RecipeError, match="does not exist"):
        read_yaml(tmp_path / "no.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"a: \xe9\n")
    with pytest.raises(RecipeError, match="is no UTF-8 text"):
        read_yaml(tmp_path / "latin.yaml")


def test_a_file_beyond_the_limit_is_not_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_file, "LARGEST_BYTES", 1 << 10)
    (tmp_path / "long.yaml").write_text("#" * 5000)
    with pytest.raises(RecipeError, match=r"long\.yaml is longer than 1 KiB"):
        read_yaml(tmp_path / "long.yaml")
