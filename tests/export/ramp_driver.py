"""Runs a submission as problem.py of the challenge does, with ramp-workflow's own import and text scan.

Started by test_ramp.py in environments of their own: python ramp_driver.py FOLDER X.npy TRAIN_ROWS OUT.npz
"""

from __future__ import annotations

import importlib.abc
import json
import sys
from pathlib import Path

import numpy as np


class Blocker(importlib.abc.MetaPathFinder):
    """Nothing of medssl or MONAI is on the server."""

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("medssl", "monai"):
            raise ImportError(f"{name} is not on the server")


def indexed(estimator, indices):
    """DeepDebiasingEstimator: every step that has ``indices`` gets them."""
    for step in estimator:
        if hasattr(step, "indices"):
            step.indices = indices
    return estimator


def main(folder: str, x_file: str, train: str, out: str) -> None:
    sys.meta_path.insert(0, Blocker())
    import nibabel
    import rampwf
    import sklearn
    from rampwf.utils.importing import import_module_from_source
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.model_selection import GridSearchCV

    module = import_module_from_source(str(Path(folder) / "estimator.py"), "estimator", sanitize=True)
    assert "estimator" not in sys.modules
    estimator = module.get_estimator()
    assert estimator.fit(None, None) is estimator
    x = np.load(x_file, mmap_mode="r")
    fold = np.arange(len(x))[: int(train)]
    found = {}
    found["fold"] = indexed(estimator, fold).predict(x)
    found["train"] = indexed(estimator, None).predict(x)
    found["test"] = indexed(estimator, range(len(x[4:]))).predict(x[4:])
    for name, features in found.items():
        assert features.shape[1] <= 10000, name
        assert np.isfinite(features).all(), name
    age, site = np.linspace(6, 86, len(fold)), np.arange(len(fold)) % 2
    grid = np.logspace(-2, 2, 3)
    GridSearchCV(Ridge(), {"alpha": grid}, cv=5, scoring="r2").fit(found["fold"], age)
    saga = LogisticRegression(solver="saga", max_iter=150)
    GridSearchCV(saga, {"C": grid}, cv=5, scoring="balanced_accuracy").fit(found["fold"], site)
    np.savez(out, **found)
    versions = {m.__name__: m.__version__ for m in (np, sklearn, nibabel, rampwf)}
    print(json.dumps(versions))


if __name__ == "__main__":
    main(*sys.argv[1:])
