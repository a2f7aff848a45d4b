"""Metrics of predictions and of representations."""
