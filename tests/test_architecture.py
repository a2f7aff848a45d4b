"""Reads every import with ``ast`` and fails where a room reaches up, or where a heavy library is out of its room."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1] / "medssl"
ARROWS = {
    "__main__": "cli",
    "cli": "challenge checks data.checks data.loading data.manifest data.sources data.synthetic data.volumes "
    "distributed errors experiments export files recipe runs stages tables views",
    "experiments": "challenge checks data.loading data.manifest distributed documents environment errors evaluation "
    "features files harmonize progress recipe report runs stages tables training",
    "challenge": "checks data.manifest errors evaluation features files progress runs stages tables",
    "stages": "checks data.checks data.loading data.manifest data.synthetic distributed encoders errors evaluation "
    "export features harmonize recipe report runs training progress",
    "export": "checks data.loading data.manifest data.volumes documents encoders errors features files heads recipe "
    "report runs views",
    "runs": "data.checks data.loading data.manifest data.volumes distributed documents encoders environment errors "
    "evaluation features files heads recipe report tables training views",
    "recipe": "checks data.loading data.manifest data.synthetic data.volumes distributed documents encoders "
    "environment errors files methods tables training types views",
    "training": "checks data.loading distributed documents errors evaluation features files memory methods tables "
    "types progress",
    "features": "data.loading data.manifest data.volumes documents errors files tables progress",
    "report": "data.manifest data.synthetic documents errors evaluation files progress tables",
    "evaluation": "errors files harmonize tables",
    "harmonize": "checks errors tables",
    "methods": "checks distributed errors heads kernels losses memory types",
    "encoders": "checks documents errors heads types",
    "heads": "checks distributed documents errors files",
    "views": "checks errors transforms types",
    "transforms": "checks errors",
    "kernels": "checks errors",
    "losses": "errors",
    "memory": "errors",
    "data.checks": "data.loading data.manifest data.volumes errors tables",
    "data.sources": "checks data.manifest data.volumes documents errors files tables",
    "data.synthetic": "checks data.volumes errors progress",
    "data.loading": "data.manifest data.volumes errors files progress",
    "data.manifest": "checks data.volumes errors tables",
    "data.volumes": "checks errors files tables",
    "checks": "errors",
    "documents": "errors",
    "files": "errors",
    "tables": "errors",
    "distributed": "errors",
}
"""Room -> rooms that it imports. A new arrow is written here first, where everybody sees it."""
FILES = sorted(ROOT.rglob("*.py"))
MODULES = {path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".") for path in FILES}


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
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            modules = [name for name in inner if name.removeprefix("medssl.") in MODULES]
            found += [*modules, *([node.module] if len(modules) < len(inner) else [])]
    return tuple(found)


def room(module: str) -> str:
    """The room of a module: its folder, or the file itself at the root; data/ is a house of its own."""
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] == "data" and len(parts) > 2 else parts[0]


def module_of(path: Path) -> str:
    return path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")


def arrows() -> dict[str, dict[str, str]]:
    """Room -> room that it imports -> an import that does so."""
    found: dict[str, dict[str, str]] = {}
    for path in FILES:
        own = room(module_of(path))
        for name in imports(path):
            if name == "medssl" or name.startswith("medssl."):
                other = room(name.removeprefix("medssl").removeprefix(".") or "__init__")
                if other not in (own, "__init__"):  # which holds the version and imports nothing by itself
                    found.setdefault(own, {})[other] = f"{path.relative_to(ROOT)} imports {name}"
    return found


def test_rooms_import_what_the_plan_says_and_nothing_else() -> None:
    seen = arrows()
    planned = {(a, b) for a, names in ARROWS.items() for b in names.split()}
    new = [text for a, others in seen.items() for b, text in others.items() if (a, b) not in planned]
    gone = [f"{a} -> {b}" for a, b in planned if b not in seen.get(a, {})]
    assert new == [], "not in ARROWS"
    assert gone == [], "in ARROWS, but no longer in the code"


def circles(graph: dict[str, set[str]]) -> list[str]:
    """Nodes that are left when all that import nothing (of what is left) are taken away, again and again."""
    left = {node: set(others) for node, others in graph.items()}
    while free := [node for node, others in left.items() if not others & left.keys()]:
        for node in free:
            del left[node]
    return sorted(left)


def test_neither_rooms_nor_files_import_each_other_in_a_circle() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == ["a", "b", "c", "d"]
    assert circles({a: set(names.split()) for a, names in ARROWS.items()}) == []
    graph = {}
    for path in FILES:
        names = {name.removeprefix("medssl.") for name in imports(path) if name.startswith("medssl.")}
        graph[module_of(path)] = names & MODULES - {module_of(path)}
    assert circles(graph) == []


def test_the_root_is_a_hall_and_no_store_room() -> None:
    assert len([path for path in FILES if path.parent == ROOT]) <= 9


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
    assert only(("pytorch_lightning", "lightning_fabric"), ("training/adapter.py", "training/hardware/")) == []


def test_rooms_of_numbers_never_import_torch() -> None:
    for name in ("evaluation", "report", "harmonize"):
        paths = list((ROOT / name).rglob("*.py"))
        assert len(paths) > 3
        for path in paths:
            assert not [n for n in imports(path) if n.split(".")[0] == "torch"], path


def test_methods_never_import_each_other() -> None:
    for path in (ROOT / "methods").rglob("*.py"):
        for name in imports(path):
            assert not name.startswith("medssl.methods.") or name == "medssl.methods.base", f"{path} imports {name}"


def test_the_command_line_imports_nothing_heavy() -> None:
    heavy = "('torch', 'numpy', 'pandas', 'monai', 'pydantic')"
    code = f"import sys, medssl.cli; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_no_room_has_a_name_that_says_nothing() -> None:
    rooms = {p.name for p in ROOT.iterdir()}
    assert not rooms & {"utils", "utils.py", "core", "common", "helpers", "engine"}
