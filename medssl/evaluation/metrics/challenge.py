"""The score of the OpenBHB challenge, which rewards a small error on unseen sites and a forgotten scanner."""

from __future__ import annotations

EXPONENT = 0.3


def challenge(site_bacc: float, mae_external: float) -> float:
    """OpenBHB score ``L_c = BAcc^0.3 * MAE_ext``; lower is better.

    site_bacc: balanced accuracy of the site probe, a fraction in [0, 1]. mae_external: years.
    Limits: a perfect age gives 0, BAcc 1 gives MAE_ext. The value can be small only because both factors
    matter: features without any content score about 2.1 on OpenBHB (64 sites) and beat half of its board,
    so a score is to be read beside that of constant features.
    Source: RAMP kit brain_age_with_site_removal (formula since 2022-09-19).

    >>> round(challenge(0.051, 3.761), 2)
    1.54
    """
    return float(site_bacc**EXPONENT * mae_external)
