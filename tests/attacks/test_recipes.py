"""Every key of a recipe is given every odd value: refused in one sentence before a scan is read, or trained with."""

from __future__ import annotations

import dataclasses
import re
import shutil
import typing
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from pydantic import BaseModel

from medssl.recipe.model import Recipe
from tests.attacks.test_arguments import complaint
from tests.attacks.world import World, medssl

VALUES: Mapping[str, str] = {
    "nothing": "",
    "null": "null",
    "true": "true",
    "zero": "0",
    "negative": "-1",
    "nan": ".nan",
    "inf": ".inf",
    "overflow": "1e400",
    "large": "1e12",
    "tiny": "1e-300",
    "half": "0.5",
    "digits": "9" * 400,
    "more digits": "9" * 5000,
    "word": "x",
    "long": "y" * 100_000,
    "list": "[]",
    "mapping": "{}",
    "nested": "[[[]]]",
    "mixed": "[1, x, null]",
    "name": "{name: x}",
    "odd name": "{name: [1]}",
    "alias": "&a [*a]",
    "code": "!!python/object/apply:os.getcwd []",
    "date": "2020-01-01",
    "open": "[" * 3000,
    "deep": "[" * 3000 + "]" * 3000,
    "bytes": "\udcff",
    "nul": "\x00",
    "up": "../../../x",
    "device": "./null",
}


def keys(node: Any = Recipe, before: str = "") -> Iterator[str]:
    """Every dotted key of a recipe, parents too."""
    if isinstance(node, type) and issubclass(node, BaseModel):
        known = {name: field.annotation for name, field in node.model_fields.items()}
    elif dataclasses.is_dataclass(node):
        known = typing.get_type_hints(node)
    else:
        return
    for name, kind in known.items():
        if name.startswith("__") or typing.get_origin(kind) is typing.ClassVar:
            continue
        yield before + name
        yield from keys(kind, f"{before}{name}.")


KEYS = list(keys())
PRINTED_ALONE: Mapping[str, str] = {"trainer.compile": "a compiler is at work for minutes"}
"""Key -> why an accepted value is not trained with."""


def chosen(key: str, few: bool) -> list[str]:
    """Kinds of values for a key: all, or one, by turns, for the fast tests."""
    kinds = sorted(VALUES)
    return [kinds[KEYS.index(key) % len(kinds)]] if few else kinds


def attacked(key: str, world: World, few: bool) -> list[str]:
    """Every complaint about a key."""
    bad, trained = [], {medssl("pretrain", "my.yaml", "--print").out}
    for kind in chosen(key, few):
        before = world.names()  # after the trainings with other values, which filled the cache
        told = medssl("pretrain", "my.yaml", "--print", f"{key}={VALUES[kind]}")
        found = complaint(told) or (f"exit status {told.status}" if told.status not in (0, 1) else "")
        begins = told.status == 0 and key not in PRINTED_ALONE and (not few or key.startswith("optim."))
        if not found and begins and told.out not in trained:  # one training for each recipe
            trained.add(told.out)
            rest = [f"{k}={v}" for k, v in {"output": "new", "trainer.epochs": 1}.items() if k != key]
            told = medssl("pretrain", "my.yaml", f"{key}={VALUES[kind]}", *rest, "--quiet")
            found = complaint(told)
            began = re.search(r"is not finite at step|NaN or Inf after the last step", told.err)  # keeps what it has
            if not found and told.status and not began and (world.home / "new").exists():
                found = "refused, and left a folder"
            shutil.rmtree(world.home / "new", ignore_errors=True)
        elif not found and told.status and world.names() != before:
            found = "refused, and left something"
        if found:
            bad.append(f"{key} [{kind}]: {found}: {told.status} {(told.err or told.out)[-300:]!r}")
    return bad


def test_all_keys_are_known():
    """And every kind of value has its turn in the fast tests."""
    assert {kind for key in KEYS for kind in chosen(key, few=True)} == set(VALUES)
    assert {"optim.lr", "data.preprocessing.spacing", "trainer.epochs", "method.name", "output"} <= set(KEYS)


@pytest.mark.parametrize("key", KEYS)
def test_an_odd_value_is_trained_with_or_refused(key: str, world: World):
    complaints = attacked(key, world, few=True)
    assert not complaints, "\n".join(complaints)


@pytest.mark.slow
@pytest.mark.parametrize("key", KEYS)
def test_every_odd_value_is_trained_with_or_refused(key: str, world: World):
    complaints = attacked(key, world, few=False)
    assert not complaints, "\n".join(complaints)
