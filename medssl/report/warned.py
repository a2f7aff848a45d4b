"""What the training warned of, in one plain sentence for the summary; the messages themselves stand below."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from medssl.errors import count
from medssl.report.verdict import Verdict

_KINDS = (
    (r"^collapse\b", "the embedding collapsed, so all scans look nearly the same to the network", True),
    (r"^dimensional collapse\b", "the features collapsed to very few of their dimensions", True),
    (r"^no learning yet\b", "the loss stayed where guessing leaves it, so hardly anything was learned", True),
    (
        r"^(?P<steps>\d+) optimiser steps in all\b.*\bare few\b",
        "it took only {steps}, and methods that compare scans need some hundreds",
        False,
    ),
)
"""How a message begins, what it means, and whether it speaks against the encoder."""


def warned(messages: Iterable[Mapping[str, Any]]) -> Verdict | None:
    """The warnings of a training, each kind once; None where there is none.

    Warnings of another kind are counted. Notes count where they are of a known kind.
    """
    points: dict[str, bool] = {}
    others = 0
    for message in messages:
        text = str(message.get("text", ""))
        for pattern, meaning, bad in _KINDS:
            if found := re.search(pattern, text):
                steps = found.groupdict().get("steps")
                points[meaning.format(steps=count(int(steps), "step") if steps else "")] = bad
                break
        else:
            others += str(message.get("level")) in ("warning", "error")
    said = [*points]
    if others:
        further = " further" if said else ""
        said.append(count(others, f"{further} warning was given".strip(), f"{further} warnings were given".strip()))
    if not said:
        return None
    text = "; ".join(said)
    return Verdict("bad" if any(points.values()) else "open", f"Warnings of the training: {text} (see the messages).")
