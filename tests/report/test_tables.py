from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medssl.errors import UserError
from medssl.report.tables import numbers


@pytest.mark.oddity("words-for-missing")
def test_words_for_missing_are_nan_and_other_words_are_refused_with_their_line() -> None:
    cells = pd.Series(["1.5", "?", " None ", "Not Available", "-", "-9"], name="loss")
    assert np.array_equal(numbers(Path("log.csv"), cells), [1.5, np.nan, np.nan, np.nan, np.nan, -9], equal_nan=True)
    with pytest.raises(UserError, match=r"log\.csv line 3: loss is 'high', which is no number"):
        numbers(Path("log.csv"), pd.Series(["1", "high"], name="loss"))
    assert numbers(Path("log.csv"), pd.Series([], dtype=object)).empty
