"""The OpenBHB benchmark: many methods and encoders over folds and seeds."""
