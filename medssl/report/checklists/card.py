"""The card of an encoder file and the number of its weights, without loading them and without torch."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import safetensors

from medssl.documents.json_file import parse_json
from medssl.documents.shape import checked
from medssl.errors import UserError

_KEY = "medssl_card"
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def read_card(path: Path) -> tuple[dict[str, Any], int | None]:
    """The card and the number of trained numbers (running statistics of norms left out); {}, None without a file.

    Raises UserError naming the file where it is damaged or holds no card.
    """
    if not path.is_file():
        return {}, None
    remedy = "restore it, or train again"
    try:
        with safetensors.safe_open(path, framework="np") as file:
            text = (file.metadata() or {}).get(_KEY)
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError) as problem:
        raise UserError(f"{path} is no complete encoder file ({' '.join(str(problem).split())}); {remedy}") from None
    if text is None:
        raise UserError(f"{path} holds no card of medssl; {remedy}")
    card = checked(parse_json(text, f"the card of {path}", remedy), dict[str, Any], f"the card of {path}", remedy)
    trained = (math.prod(shape) for name, shape in shapes.items() if not name.endswith(_STATISTICS))
    return card, sum(trained)
