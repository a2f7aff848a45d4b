"""Deliberate mistakes, and the run that shows that the tests see them (``python -m tests.mutants``)."""
