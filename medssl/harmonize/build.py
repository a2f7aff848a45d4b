"""Harmonisers by name."""

from __future__ import annotations

import difflib

from medssl.errors import UserError
from medssl.harmonize.base import POLICIES, Harmonizer
from medssl.harmonize.combat import ComBat
from medssl.harmonize.residual import Residual

HARMONIZERS: dict[str, type[Harmonizer]] = {"combat": ComBat, "residual": Residual}


def build_harmonizer(name: str, unseen: str = "error") -> Harmonizer:
    """A harmoniser that is not fitted yet; UserError for an unknown name or policy."""
    for what, value, known in (("harmoniser", name, tuple(HARMONIZERS)), ("policy for unseen sites", unseen, POLICIES)):
        if value not in known:
            near = difflib.get_close_matches(value, known, n=1, cutoff=0.4)
            hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(known)}"
            raise UserError(f"'{value}' is no {what}; {hint}")
    return HARMONIZERS[name](unseen)  # type: ignore[arg-type]
