"""Reporting checklists of journals, filled in with what a run knows."""
