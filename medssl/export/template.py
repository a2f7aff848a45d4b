"""The text of a submission: readable pieces of plain PyTorch, put together for one encoder."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pprint import pformat
from typing import Any

import medssl

ENCODERS = {
    "alexnet3d": "alexnet3d",
    "densenet121": "densenet",
    "mlp": "mlp",
    "resnet18": "resnet",
    "resnet50": "resnet",
}
"""Encoder -> the piece that rebuilds it. Its modules have the names of medssl's, so that weights fit as they are."""
MARK = "Features of brain scans for the OpenBHB challenge"
"""How the text of every submission begins."""
BATCH = 4
"""Scans per forward pass."""


def estimator_source(config: Mapping[str, Any]) -> str:
    """estimator.py for a configuration (see ``openbhb.configuration``)."""
    names = ("top", "rows", "preprocess", "layers", ENCODERS[config["encoder"]["name"]], "estimator")
    text = "".join(_piece(name) for name in names)
    values = pformat(dict(config), width=110, sort_dicts=False)
    filled = {"@CONFIG@": values, "@BATCH@": str(BATCH), "@MADE_BY@": f"medssl {medssl.__version__}"}
    for place, value in filled.items():
        text = text.replace(place, value)
    return text


def _piece(name: str) -> str:
    """A piece of the text, from the package's data."""
    return (resources.files("medssl") / "export" / "pieces" / f"{name}.py.txt").read_text(encoding="utf-8")
