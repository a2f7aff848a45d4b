"""Supervised baselines in the same trainer."""
