"""Harmonisers by name."""

from __future__ import annotations

from typing import Literal

from medssl.checks import check
from medssl.harmonize.base import Harmonizer, Unseen
from medssl.harmonize.combat import ComBat
from medssl.harmonize.residual import Residual

Name = Literal["combat", "residual"]
HARMONIZERS: dict[str, type[Harmonizer]] = {"combat": ComBat, "residual": Residual}


def build_harmonizer(name: str, unseen: str = "error") -> Harmonizer:
    """A harmoniser that is not fitted yet; UserError for an unknown name or policy."""
    return HARMONIZERS[check("harmonize", name, Name)](check("unseen", unseen, Unseen))
