from __future__ import annotations

import numpy as np
import pytest

from medssl.errors import UserError
from medssl.harmonize.design import column, site_names


@pytest.mark.oddity("words-for-missing")
def test_words_for_missing_are_no_site() -> None:
    given = np.array(["A", "-", "Unknown", 3.0, None, np.nan, "NULL"], dtype=object)
    assert site_names(given, 7, missing=True).tolist() == ["A", "", "", "3", "", "", ""]
    with pytest.raises(UserError, match=r"row 1 \(5 such\) has no site"):
        site_names(given, 7)


@pytest.mark.oddity("words-for-missing")
@pytest.mark.parametrize("word", ["?", "not available", "N/A", ""])
def test_a_word_for_missing_is_no_level_of_a_covariate(word: str) -> None:
    with pytest.raises(UserError, match=r"covariate 'sex' of row 2 \(1 such\) is missing"):
        column("sex", ["M", "F", word], 3)
