"""The cohort that the tests of probes use too."""

from tests.evaluation.conftest import make_cohort

__all__ = ["make_cohort"]
