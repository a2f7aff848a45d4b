"""What a method is shown: policies of transforms, view makers, and where their randomness comes from.

Every view maker is one file with one picklable class that fits :class:`MakesViews`, and a line in ``views/table.py``.
"""

from __future__ import annotations

from medssl.views.base import ANSWERS, ROLES, MakesViews
from medssl.views.multicrop import MultiCrop
from medssl.views.pair import ViewMaker
from medssl.views.policies import POLICIES, Drawn, Policy, Slot, build_policy
from medssl.views.seeding import TARGETS, rng_for
from medssl.views.table import VIEWS, build_views, check_views

__all__ = [
    "ANSWERS",
    "POLICIES",
    "ROLES",
    "TARGETS",
    "VIEWS",
    "Drawn",
    "MakesViews",
    "MultiCrop",
    "Policy",
    "Slot",
    "ViewMaker",
    "build_policy",
    "build_views",
    "check_views",
    "rng_for",
]
