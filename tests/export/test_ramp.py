"""Submissions under ramp-workflow, as the challenge runs them: here where it is installed, and in two environments."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest

from medssl.export.openbhb import export_openbhb, largest_difference
from medssl.export.standin import stand_in_rows
from tests.export.conftest import SMALL, TABLE, embedded, make_run

DRIVER = Path(__file__).with_name("ramp_driver.py")
ROWS, TRAIN = 21, 12  # sets are recognised by their row counts: 21, 12 and 17 differ
ENVIRONMENTS = {
    "newest": ["numpy", "scikit-learn", "nibabel", "pandas", "scipy", "ramp-workflow==0.7.0"],
    "old": ["numpy<2", "scikit-learn==1.5.*", "nibabel==4.0.*", "pandas<3", "scipy<1.15", "ramp-workflow==0.7.0"],
}
DENSE = {"name": "densenet121", "width": 8, "growth": 4, "depth": [1, 1], "stem": "small"}
CASES = {
    "resnet": ("quasiraw", SMALL, {"spacing": [2, 2, 2]}, "z"),
    "densenet": ("vbm", DENSE, {"mask": "otsu"}, "h"),
    "alexnet": ("quasiraw", {"name": "alexnet3d", "width": 4}, {"intensity": "percentile", "shape": [20] * 3}, "h"),
    "mlp": ("desikan_roi", {"name": "mlp", "hidden": [9, 8], "norm": "batch"}, {"mask": "none"}, "z"),
}  # fmt: skip


def environment(name: str, packages: list[str], home: Path) -> Path:
    """Python of a new environment that holds these packages, and torch of this one behind them; skips without index.

    A folder in MEDSSL_TEST_ENVIRONMENTS keeps the environments for the next time.
    """
    folder = Path(os.environ.get("MEDSSL_TEST_ENVIRONMENTS") or home) / name
    python = folder / "bin" / "python"
    if not (folder / "complete").is_file():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        install = [str(python), "-I", "-m", "pip", "install", "--quiet", "--retries", "1", *packages]
        done = subprocess.run(install, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"the environment '{name}' cannot be installed here: {done.stderr.strip().splitlines()[-1]}")
        held = subprocess.run(
            [str(python), "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"],
            capture_output=True,
            text=True,
            check=True,
        )
        (Path(held.stdout.strip()) / "torch_of_the_tests.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
        (folder / "complete").touch()
    return python


def drive(python: Path | str, case: str, tmp_path: Path, masks: dict[str, Path]) -> dict[str, str]:
    """Export a case, let the driver predict, compare with ``medssl embed``; versions of the packages."""
    modality, spec, prep, features = CASES[case]
    run = make_run(tmp_path / "run", modality, spec, prep, policy="yaware")
    folder = export_openbhb(run, tmp_path / "out", features=features, table=TABLE)
    x = stand_in_rows(TABLE, modality, ROWS, tmp_path / "x.npy")
    alone = [] if python == sys.executable else ["-I"]  # an environment of its own sees nothing of this one's paths
    job = [str(python), *alone, "-W", "ignore", str(DRIVER), str(folder), str(x), str(TRAIN), str(tmp_path / "f.npz")]
    done = subprocess.run(job, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    wanted = embedded(run, np.load(x, mmap_mode="r"), modality, masks, z=features == "z")
    with np.load(tmp_path / "f.npz") as found:
        for name, rows in (("train", slice(None)), ("fold", slice(0, TRAIN)), ("test", slice(4, None))):
            assert largest_difference(found[name], wanted[rows]) <= 1e-5, name
    versions: dict[str, str] = json.loads(done.stdout)
    return versions


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_ramp_workflow_accepts_the_submission_here(case: str, tmp_path: Path, masks: dict[str, Path]):
    pytest.importorskip("rampwf", reason="ramp-workflow is not installed (it is in the extra 'test')")
    drive(sys.executable, case, tmp_path, masks)


def test_ramp_workflow_refuses_a_comment_with_a_blank_before_the_word(tmp_path: Path):
    importing = pytest.importorskip("rampwf.utils.importing", reason="ramp-workflow is not installed")
    folder = export_openbhb(make_run(tmp_path / "run"), tmp_path / "out", table=TABLE)
    source = folder / "estimator.py"
    importing.import_module_from_source(str(source), "estimator", sanitize=True)
    with source.open("a") as file:
        file.write("# an open data set\n")
    with pytest.raises(RuntimeError, match="forbidden key word open detected in submission"):
        importing.import_module_from_source(str(source), "estimator", sanitize=True)


@pytest.fixture(scope="module", params=ENVIRONMENTS)
def interpreter(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """Name and Python of an environment."""
    name = str(request.param)
    return name, environment(name, ENVIRONMENTS[name], tmp_path_factory.mktemp("environments"))


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_old_and_new_packages_give_the_features_of_medssl_embed(
    case: str, interpreter: tuple[str, Path], tmp_path: Path, masks: dict[str, Path]
):
    name, python = interpreter
    versions = drive(python, case, tmp_path, masks)
    numbers = {package: tuple(int(n) for n in v.split(".")[:2]) for package, v in versions.items()}
    assert versions["rampwf"] == "0.7.0"
    if name == "old":
        assert numbers["numpy"] < (2, 0)
        assert (numbers["sklearn"], numbers["nibabel"]) == ((1, 5), (4, 0))
    else:
        assert numbers["numpy"] >= (2, 0)
        assert numbers["nibabel"] >= (5, 0)
