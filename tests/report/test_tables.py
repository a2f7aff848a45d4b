from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medssl.errors import UserError
from medssl.report.read import _scans
from medssl.report.tables import numbers


@pytest.mark.oddity("words-for-missing")
def test_words_for_missing_are_nan_and_other_words_are_refused_with_their_line() -> None:
    cells = pd.Series(["1.5", "?", " None ", "Not Available", "-", "-9"], name="loss")
    assert np.array_equal(numbers(Path("log.csv"), cells), [1.5, np.nan, np.nan, np.nan, np.nan, -9], equal_nan=True)
    with pytest.raises(UserError, match=r"log\.csv line 3: loss is 'high', which is no number"):
        numbers(Path("log.csv"), pd.Series(["1", "high"], name="loss"))
    assert numbers(Path("log.csv"), pd.Series([], dtype=object)).empty


@pytest.mark.oddity("age-impossible-in-use")
def test_a_report_counts_an_impossible_age_as_unknown(tmp_path: Path) -> None:
    (tmp_path / "features.csv").write_text("participant_id,age,split,f0\na,-3,train,1\nb,40,train,2\nc,,train,3\n")
    table = _scans(tmp_path / "features.csv")
    assert table is not None
    assert np.array_equal(table["age"], [np.nan, 40.0, np.nan], equal_nan=True)
