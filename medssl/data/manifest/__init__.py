"""The table of a cohort: rows, people, splits."""
