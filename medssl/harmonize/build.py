"""Harmonisers by name."""

from __future__ import annotations

from medssl.checks import nearest, short
from medssl.errors import UserError
from medssl.harmonize.base import POLICIES, Harmonizer
from medssl.harmonize.combat import ComBat
from medssl.harmonize.residual import Residual

HARMONIZERS: dict[str, type[Harmonizer]] = {"combat": ComBat, "residual": Residual}


def build_harmonizer(name: str, unseen: str = "error") -> Harmonizer:
    """A harmoniser that is not fitted yet; UserError for an unknown name or policy."""
    for what, value, known in (("harmoniser", name, tuple(HARMONIZERS)), ("policy for unseen sites", unseen, POLICIES)):
        if value not in known:
            raise UserError(f"{short(value)} is no {what}; {nearest(value, known)}")
    return HARMONIZERS[name](unseen)  # type: ignore[arg-type]
