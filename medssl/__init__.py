"""medssl: representations of 3D brain scans that keep biology and drop the scanner."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_LAZY = {
    "load_encoder": "medssl.encoders.file",
    "load_network": "medssl.runs.network",
    "Cohort": "medssl.data.manifest.cohort",
    "pretrain": "medssl.stages",
    "embed": "medssl.stages",
    "score": "medssl.stages",
    "synthetic_cohort": "medssl.stages",
    "write_report": "medssl.stages:report",  # medssl.report is the room that makes it
}
__all__ = [
    "Cohort",
    "__version__",
    "embed",
    "load_encoder",
    "load_network",
    "pretrain",
    "score",
    "synthetic_cohort",
    "write_report",
]

if TYPE_CHECKING:
    from medssl.data.manifest.cohort import Cohort
    from medssl.encoders.file import load_encoder
    from medssl.runs.network import load_network
    from medssl.stages import embed, pretrain, score, synthetic_cohort
    from medssl.stages import report as write_report


def __dir__() -> list[str]:
    """The public names, for completion."""
    return __all__


def __getattr__(name: str) -> Any:
    """Import the public names when first asked for, so that ``medssl --help`` stays quick."""
    if name in _LAZY:
        module, _, inner = _LAZY[name].partition(":")
        return getattr(import_module(module), inner or name)
    raise AttributeError(f"module 'medssl' has no attribute {name!r}")
