"""Scores of frozen features: probes, metrics, intervals and the scorecard."""
