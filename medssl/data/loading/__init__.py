"""Scans on their way to a training: cache, data sets, batches."""
