"""Folders and tables of other people turned into a manifest."""
