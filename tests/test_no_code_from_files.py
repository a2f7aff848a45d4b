"""Nothing that stands in a file is run: every call in the package that could is in a short list, with its reason."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1] / "medssl"
MODULES = {"pickle", "cPickle", "_pickle", "shelve", "marshal", "dill", "cloudpickle", "joblib", "pandas.io.pickle"}
"""Modules that turn bytes into objects by calling what the bytes name."""
RUNS = {"eval", "exec", "compile", "__import__"}
ALLOWED = {
    ("export/openbhb.py", "pickle.dumps"): "writes metadata.pkl, which the challenge wants as a pickle of plain values",
    ("export/openbhb.py", "exec_module"): "imports the estimator.py that was generated and written a moment before",
    ("export/server.py", "exec_module"): "the child process that runs estimator.py; see export/check.py for when",
    ("evaluation/age.py", "joblib.parallel_config"): "threads of scikit-learn; reads no file",
    ("evaluation/site.py", "joblib.parallel_config"): "threads of scikit-learn; reads no file",
    ("export/pieces/estimator.py.txt", "torch.load"): "torch before 1.13 on the server has no weights_only",
}
"""(file, what) -> why it may stand there. Whatever is not listed fails."""


def sources() -> list[Path]:
    return sorted([*ROOT.rglob("*.py"), *ROOT.rglob("*.py.txt")])


def aliases(tree: ast.AST) -> dict[str, str]:
    """Local name -> what it was imported as, anywhere in a file."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                names[alias.asname or alias.name.split(".")[0]] = (
                    alias.name if alias.asname else alias.name.split(".")[0]
                )
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return names


def full_name(node: ast.AST, names: dict[str, str]) -> str:
    """A dotted expression with the imported name written out."""
    text = ast.unparse(node)
    first, dot, rest = text.partition(".")
    return names.get(first, first) + dot + rest


def argument(call: ast.Call, name: str) -> object:
    """The constant that a call gives for a keyword; None where it gives none."""
    value = next((k.value for k in call.keywords if k.arg == name), None)
    return value.value if isinstance(value, ast.Constant) else None


def dangers(text: str) -> set[str]:
    """What in a source text could run what stands in a file."""
    tree = ast.parse(text)
    names = aliases(tree)
    found = {
        name
        for name in names.values()
        if (name.split(".")[0] in MODULES and "." in name) or any(name.startswith(f"{m}.") for m in MODULES)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and full_name(node.value, names) in MODULES:
            found.add(f"{full_name(node.value, names)}.{node.attr}")
        if isinstance(node, ast.Attribute) and node.attr in ("read_pickle", "exec_module", "load_module", "run_path"):
            found.add(node.attr)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and full_name(node, names) in RUNS:
            found.add(node.id)
        if not isinstance(node, ast.Call):
            continue
        called = full_name(node.func, names)
        if called == "numpy.load" and argument(node, "allow_pickle") is not False:
            found.add("numpy.load")
        if any(k.arg == "allow_pickle" and argument(node, "allow_pickle") is not False for k in node.keywords):
            found.add(f"{called} with allow_pickle")
        if called == "torch.load" and argument(node, "weights_only") is not True:
            found.add("torch.load")
        if called.startswith("yaml.") and called.rpartition(".")[2] in ("load", "load_all", "full_load", "unsafe_load"):
            found.add(called)
        if called.endswith(".read_pickle"):
            found.add("read_pickle")
        if called in ("runpy.run_path", "runpy.run_module", "torch.jit.load", "torch.package.PackageImporter"):
            found.add(called)
        if called == "importlib.import_module" and not _is_of_ours(node):
            found.add("importlib.import_module")
    return found


def _is_of_ours(call: ast.Call) -> bool:
    """Whether a module is imported by a name that stands in the source."""
    return bool(call.args) and isinstance(call.args[0], ast.Constant)


IMPORTS = {
    "__init__.py": "names of the package's own table of what it exports",
    "recipe/catalog.py": "names of the catalogue's own table",
    "encoders/__init__.py": "names of the encoders' own table",
    "views/table.py": "names of the view makers' own table",
}
"""Files that import a module by a name from a table of the source."""


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(ROOT)))
def test_no_file_runs_what_stands_in_another(path: Path) -> None:
    place = path.relative_to(ROOT).as_posix()
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".txt":
        text = text.replace("@CONFIG@", "{}").replace("@BATCH@", "4").replace("@MADE_BY@", "medssl")
    for what in sorted(dangers(text)):
        if what == "importlib.import_module" and place in IMPORTS:
            continue
        assert (place, what) in ALLOWED, f"{place} uses {what}, which can run code that stands in a file"


def test_the_list_names_nothing_that_is_gone() -> None:
    found = set()
    for path in sources():
        text = path.read_text(encoding="utf-8").replace("@CONFIG@", "{}").replace("@BATCH@", "4")
        found |= {(path.relative_to(ROOT).as_posix(), what) for what in dangers(text)}
    assert set(ALLOWED) <= found
    assert {(place, "importlib.import_module") for place in IMPORTS} <= found


@pytest.mark.parametrize(
    "text",
    [
        "import pickle\npickle.load(f)",
        "import pickle as p\np.loads(f)",
        "from pickle import loads\nloads(b)",
        "from pickle import Unpickler as U\nU(f).load()",
        "def f():\n    import _pickle\n    _pickle.loads(b)",
        "import pandas as pd\npd.read_pickle(p)",
        "from pandas import read_pickle\nread_pickle(p)",
        "import pandas.io.pickle as x\nx.read_pickle(p)",
        "import numpy as np\nnp.load(p)",
        "import numpy as np\nnp.load(p, allow_pickle=True)",
        "import numpy as np\nnp.load(p, allow_pickle=flag)",
        "from numpy import load\nload(p)",
        "import numpy\nnumpy.lib.format.read_array(f, allow_pickle=True)",
        "import torch\ntorch.load(p)",
        "import torch\ntorch.load(p, weights_only=False)",
        "from torch import load as l\nl(p)",
        "import joblib\njoblib.load(p)",
        "import shelve\nshelve.open(p)",
        "import marshal\nmarshal.loads(b)",
        "import dill\ndill.load(f)",
        "import cloudpickle\ncloudpickle.loads(b)",
        "import yaml\nyaml.load(f, yaml.Loader)",
        "import yaml\nyaml.unsafe_load(f)",
        "eval(text)",
        "exec(text)",
        "compile(text, 'x', 'exec')",
        "f = eval\nf(text)",
        "__import__(name)",
        "import importlib\nimportlib.import_module(name)",
        "from importlib import import_module as im\nim(name)",
        "spec.loader.exec_module(module)",
        "import runpy\nrunpy.run_path(p)",
        "import torch\ntorch.jit.load(p)",
    ],
)
def test_every_way_to_run_a_file_is_seen(text: str) -> None:
    assert dangers(text)


@pytest.mark.parametrize(
    "text",
    [
        "import numpy as np\nnp.load(p, allow_pickle=False)",
        "import torch\ntorch.load(p, weights_only=True)",
        "import re\nre.compile('x')",
        "network.eval()",
        "import json\njson.loads(t)",
        "import torch\ntorch.compile(f)",
        "from importlib import import_module\nimport_module('neuroCombat')",
    ],
)
def test_what_runs_nothing_is_left_alone(text: str) -> None:
    assert not dangers(text)
