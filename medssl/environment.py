"""When and with what something was made: time, versions, hardware, command."""

from __future__ import annotations

import os
import platform
import sys
from datetime import datetime, timezone
from importlib import metadata
from typing import Any

import torch

from medssl import __version__

_PACKAGES = (
    "torch",
    "monai",
    "pytorch-lightning",
    "numpy",
    "scipy",
    "scikit-learn",
    "nibabel",
    "SimpleITK",
    "pandas",
)


def now() -> str:
    """Time stamp in UTC, to the second."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def origin() -> dict[str, Any]:
    """Versions and hardware, for run.json and for records of measurements."""
    versions = {"medssl": __version__, "python": platform.python_version()}
    versions |= {name: _version(name) for name in _PACKAGES}
    hardware = {
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
    }
    return {
        "medssl_version": __version__,
        "versions": versions,
        "hardware": hardware,
        "command": " ".join(sys.argv),
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
