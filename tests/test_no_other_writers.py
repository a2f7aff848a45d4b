"""Every file is written through ``medssl.files``, which says what went wrong; the few that are not are listed."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1] / "medssl"
WRITERS = {"write_text", "write_bytes", "tofile", "open_memmap", "touch", "copyfile", "copy2", "to_hdf"}
TO_A_PATH = {"save", "savez", "savez_compressed", "to_csv", "to_parquet", "savefig", "save_file", "to_json", "dump"}
"""Functions that write a file where they are given its path; ours give them an open file, or take what they return."""
OPEN_FILES = {"file", "content", "buffer", "out", "figure"}
"""What an open file, or a buffer in memory, is called in the package."""
ALLOWED = {
    "files.py": "the writers themselves",
    "export/process.py": "output of a child process, under said()",
    "export/standin.py": "rows in parts, under said()",
    "export/check.py": "copies of the files that are checked, under said()",
    "export/server.py": "the child process that imports nothing of medssl; its parent says that it ended",
    "data/synthetic/cohort.py": "texts of a folder that appears whole; every OSError there is a sentence",
}


def writes(text: str) -> list[str]:
    """Calls of a source text that write a file by themselves."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name == "open":
            at = 0 if isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) != "gzip" else 1
            given = [*node.args[at : at + 1], *(k.value for k in node.keywords if k.arg == "mode")]
            modes = [m.value for m in given if isinstance(m, ast.Constant) and isinstance(m.value, str)]
            if any(set(mode) & set("wax+") for mode in modes):
                found.append(ast.unparse(node))
        elif name in WRITERS:
            found.append(ast.unparse(node))
        elif name in TO_A_PATH and node.args:
            first = node.args[0]
            if not (isinstance(first, ast.Name) and first.id in OPEN_FILES | {"weights", "state"}):
                found.append(ast.unparse(node))
    return found


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_no_file_is_written_past_the_writers(path: Path) -> None:
    place = path.relative_to(ROOT).as_posix()
    found = writes(path.read_text(encoding="utf-8"))
    assert not found or place in ALLOWED, f"{place} writes by itself: {found[0]}; use medssl.files"


@pytest.mark.parametrize(
    "text",
    [
        "open(p, 'w')", "p.open('a')", "p.open(mode='xb')", "open(p, mode='r+b')", "gzip.open(p, 'wb')",
        "p.write_text('x')", "p.write_bytes(b)", "x.tofile(p)", "np.save(path, x)", "np.savez(p / 'a.npz', x=x)",
        "table.to_csv(path)", "fig.savefig('a.png')", "shutil.copyfile(a, b)", "torch.save(model, path)",
        "safetensors.torch.save_file(w, path)",
    ],
)  # fmt: skip
def test_every_other_writer_is_seen(text: str) -> None:
    assert writes(text)


@pytest.mark.parametrize(
    "text", ["open(p)", "p.open('rb')", "gzip.open(p)", "table.to_csv(index=False)", "np.save(file, x)"]
)
def test_readers_and_open_files_are_left_alone(text: str) -> None:
    assert not writes(text)
