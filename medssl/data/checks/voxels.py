"""What the voxels of one scan show: why they cannot be used, or values that no tissue has."""

from __future__ import annotations

import numpy as np

REACH = 20.0
"""How many times farther from the median than 99.9 % of a scan's voxels a value is absurd.

Of 163 real T1w brains at 2 and 4 mm (8 bits) none has a value beyond 1.1 times that distance; of 120 simulated heads,
stripped and not, with eyes, fat and vessels of up to 12 times the brain's signal, none beyond 4 times.
"""
_SAMPLED = 1 << 20
"""Voxels that the median and the percentile are taken of."""


def unusable(data: np.ndarray) -> tuple[str, str]:
    """Code and reason why voxels (C, D, H, W) cannot be used, ("", "") where they can."""
    if bad := int(data.size - np.isfinite(data).sum()):
        tests = (("NaN", np.isnan), ("Inf", np.isinf))
        kinds = [name for name, test in tests if test(data).any()]
        option = "set preprocessing.nan: zero, or " if kinds == ["NaN"] else ""
        share = f"{bad} voxels ({100 * bad / data.size:.2g} %)"
        return (
            "not-finite",
            f"has {share} that are {' or '.join(kinds)}; {option}set them to 0 outside the brain and save it again",
        )
    low, high = float(data.min()), float(data.max())
    if low == high == 0:
        return "empty", "is empty: every voxel is 0; drop the row"
    if low == high:
        return "constant", f"is constant: every voxel is {low:g}; drop the row"
    return "", ""


def absurd(data: np.ndarray) -> str:
    """A sentence on voxels whose values would swamp the mean and deviation of their channel; "" where there are none.

    data: (C, D, H, W), finite. Judged among voxels other than 0: how far a value is from their median, against the
    distance within which 99.9 % of them lie (and the median itself), times ``REACH``.
    """
    for x_DHW in data:
        values = x_DHW[x_DHW != 0]
        if not values.size:
            continue
        sample = values[:: max(1, values.size // _SAMPLED)].astype(np.float64)
        middle = float(np.median(sample))
        usual = float(np.percentile(np.abs(sample - middle), 99.9))
        far = values[np.abs(values.astype(np.float64) - middle) > REACH * max(usual, abs(middle))]
        if far.size:
            most = float(far[np.argmax(np.abs(far))])
            count = f"{far.size} voxel{'s have values' if far.size > 1 else ' has a value'}"
            return (
                f"{count} that no tissue has (up to {most:.4g}, while the 99.9th percentile is "
                f"{np.percentile(sample, 99.9):.4g}), which would swamp a z-score; repair or clip the scan, or set "
                "preprocessing.intensity: percentile"
            )
    return ""
