"""Names of strategies."""

from __future__ import annotations

from pytorch_lightning.strategies import StrategyRegistry


def known_strategies() -> list[str]:
    """Names that Lightning knows."""
    return StrategyRegistry.available_strategies()
