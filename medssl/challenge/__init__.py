"""The OpenBHB challenge: folds, probes, scores and boards."""
