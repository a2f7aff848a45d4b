from __future__ import annotations

import pkgutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import medssl

ROOT = Path(__file__).resolve().parents[1]
NAMES = [name for name in medssl.__all__ if name != "__version__"]


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_can_be_called_also_after_all_rooms_are_loaded(name: str):
    import medssl.report.build
    import medssl.stages

    assert callable(getattr(medssl, name))
    assert not isinstance(getattr(medssl, name), ModuleType)


def test_no_public_name_hides_behind_a_room():
    """Python replaces an attribute of a package by its subpackage of the same name once that is imported."""
    assert not set(NAMES) & {module.name for module in pkgutil.iter_modules(medssl.__path__)}


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'pretrian'"):
        _ = medssl.pretrian


def test_importing_the_package_is_cheap():
    code = "import medssl, sys; print(sorted({'torch', 'pandas', 'monai', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
