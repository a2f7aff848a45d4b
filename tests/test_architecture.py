"""Reads every import with ``ast`` and fails where a room reaches up, or where a heavy library is out of its room."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1] / "medssl"
LEVEL = {
    "types": 0, "errors": 0, "checks": 0, "files": 0, "tables": 0, "documents": 0,
    "transforms": 1, "kernels": 1, "losses": 1, "memory": 1, "encoders": 1, "heads": 1,
    "harmonize": 1, "probes": 1, "metrics": 1,
    "data": 2, "views": 2,
    "methods": 3,
    "training": 4, "features": 4, "report": 4,
    "finetune": 5, "catalog": 5, "config": 5, "export": 5, "assemble": 5, "references": 5, "lineage": 5,
    "network": 5, "rehearsal": 5, "overrides": 5, "ages": 5, "finish": 5, "pretraining": 5, "same_scans": 5,
    "compare": 5,
    "stages": 6, "openbhb": 6, "benchmark": 6, "study": 6,
    "cli": 7, "__main__": 7, "__init__": 7,
}  # fmt: skip
FILES = sorted(ROOT.rglob("*.py"))


@cache
def imports(path: Path) -> tuple[str, ...]:
    """Names of modules imported anywhere in a file, also inside functions, but not for type checking only."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skip = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    found = []
    for node in ast.walk(tree):
        if id(node) in skip:
            continue
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append(node.module)
    return tuple(found)


def room(path: Path) -> str:
    return path.relative_to(ROOT).with_suffix("").parts[0]


def level(path: Path) -> int:
    return 2 if path == ROOT / "methods" / "base.py" else LEVEL[room(path)]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_file_imports_a_higher_room(path: Path) -> None:
    assert room(path) in LEVEL, f"{path} is in no known room"
    for name in imports(path):
        if not name.startswith("medssl."):
            continue
        target = name.split(".")[1]
        base = name == "medssl.methods.base"
        assert (2 if base else LEVEL[target]) <= level(path), f"{path} imports {name}"


def only(library: tuple[str, ...], allowed: tuple[str, ...]) -> list[str]:
    wrong = []
    for path in FILES:
        place = str(path.relative_to(ROOT))
        if any(place.startswith(a) for a in allowed):
            continue
        wrong += [f"{place} imports {n}" for n in imports(path) if n.split(".")[0] in library]
    return wrong


def test_libraries_stay_in_their_rooms() -> None:
    assert only(("yaml",), ("documents/yaml_file.py",)) == []
    assert only(("nibabel", "SimpleITK"), ("data/volumes/volume.py", "data/volumes/formats.py")) == []
    assert only(("monai",), ("transforms/", "encoders/", "heads/")) == []
    assert only(("pytorch_lightning", "lightning_fabric"), ("training/adapter.py", "training/hardware/launch.py")) == []


def test_rooms_of_numbers_never_import_torch() -> None:
    for name in ("probes", "metrics", "report", "harmonize"):
        for path in (ROOT / name).rglob("*.py"):
            assert not [n for n in imports(path) if n.split(".")[0] == "torch"], path


def test_losses_import_torch_types_and_each_other_only() -> None:
    for path in (ROOT / "losses").rglob("*.py"):
        for name in imports(path):
            assert not name.startswith("medssl.") or name.split(".")[1] in ("types", "errors", "checks", "losses"), path


def test_methods_never_import_data_training_config_or_an_encoder() -> None:
    for path in (ROOT / "methods").rglob("*.py"):
        for name in imports(path):
            parts = name.split(".")
            if parts[0] == "medssl":
                assert parts[1] in ("types", "errors", "checks", "losses", "kernels", "memory", "heads", "methods"), (
                    path
                )
                assert parts[1] != "methods" or name == "medssl.methods.base", f"{path} imports another method"


def test_the_command_line_imports_nothing_heavy() -> None:
    heavy = "('torch', 'numpy', 'pandas', 'monai', 'pydantic')"
    code = f"import sys, medssl.cli; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_no_room_has_a_name_that_says_nothing() -> None:
    rooms = {p.name for p in ROOT.iterdir()}
    assert not rooms & {"utils", "utils.py", "core", "common", "helpers", "engine"}
