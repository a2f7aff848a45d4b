"""Tables of many methods on one cohort: every cell is trained, embedded and scored by the same calls as one run."""
