"""Methods by chapter; base.py holds their contract."""
