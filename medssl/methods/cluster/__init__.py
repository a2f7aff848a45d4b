"""Pseudo-labels from clustering the cohort."""
