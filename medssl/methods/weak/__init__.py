"""Weak labels (age, sex, site) say how much two scans attract."""
