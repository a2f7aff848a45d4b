"""Literal loops over the formulas of the papers; slow, obvious, float64."""
