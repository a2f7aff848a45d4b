"""Looks into recipe.yaml as text: blocks and single values of the resolved recipe, for showing, never for using."""

from __future__ import annotations

import re
from typing import Any

from medssl.report.words import percent


def block(text: str | None, key: str) -> str:
    """The text below ``key:`` at the outermost level, with its indentation removed; "" where there is none.

    >>> block("a: 1\\ndata:\\n  x: 2\\n  y: 3\\nb: 4\\n", "data")
    'x: 2\\ny: 3'
    """
    inside: list[str] = []
    found = False
    for line in (text or "").splitlines():
        if re.match(rf"{re.escape(key)}:(\s|$)", line):
            found, rest = True, line.partition(":")[2].strip()
            if rest:
                return "" if rest in ("null", "~") else rest
        elif found and line.strip():
            if not line.startswith((" ", "- ")):
                break
            inside.append(line)
    depth = min((len(line) - len(line.lstrip()) for line in inside), default=0)
    return "\n".join(line[depth:] for line in inside)


def lines(text: str) -> list[str]:
    """A block as short lines: lists of plain values are joined to their key, values that are null left out.

    >>> lines("spacing:\\n- 4.0\\n- 4.0\\nmask: otsu\\nshape: null")
    ['spacing: 4.0, 4.0', 'mask: otsu']
    """
    said: list[str] = []
    for line in text.splitlines():
        item = re.match(r"\s*- ([^:]+)$", line)
        if item and said and not said[-1].lstrip().startswith("- "):
            said[-1] += f"{'' if said[-1].endswith(':') else ','} {item.group(1)}"
        elif not re.search(r":\s*(null|~|\[\]|\{\})$", line):
            said.append(line.rstrip())
    return said


def joined(said: list[str]) -> list[str]:
    """Plain keys and values on one line; what is nested stays as it is.

    >>> joined(["name: vit", "depth: 4"])
    ['name: vit; depth: 4']
    """
    nested = any(line.startswith((" ", "- ")) or line.endswith(":") for line in said)
    return said if nested or not said else ["; ".join(said)]


def value(text: str | None, *keys: str) -> str:
    """A single value such as trainer.epochs as it is written; "" where it is absent or no single value.

    >>> value("trainer:\\n  epochs: 28\\n", "trainer", "epochs")
    '28'
    """
    inside = text or ""
    for key in keys:
        inside = block(inside, key)
    return "" if "\n" in inside or inside.endswith(":") else inside.strip("'\" ")


def policy_lines(views: Any) -> list[str]:
    """The resolved view policy of run.json, a list of {transform: {p, arguments}}, as a line per transform.

    >>> policy_lines([{"flip": {"p": 1.0, "axes": [0]}}])
    ['flip, always: axes 0']
    """
    said = []
    for slot in views if isinstance(views, list) else []:
        for name, arguments in slot.items() if isinstance(slot, dict) else []:
            inside = dict(arguments) if isinstance(arguments, dict) else {}
            chance = inside.pop("p", 1.0)
            known = isinstance(chance, int | float)
            often = (", always" if chance == 1 else f", in {percent(float(chance))} of views") if known else ""
            details = ", ".join(f"{k} {_short(v)}" for k, v in inside.items() if v is not None)
            said.append(f"{name}{often}{f': {details}' if details else ''}")
    return said


def _short(given: Any) -> str:
    if isinstance(given, list):
        return (" to " if len(given) == 2 else ", ").join(map(_short, given))
    return f"{given:.4g}" if isinstance(given, float) else str(given)
