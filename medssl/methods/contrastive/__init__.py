"""Instances as their own classes: two views attract, other scans repel."""
