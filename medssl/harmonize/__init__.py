"""What takes the scanner out of features: fitted on training rows, applied to new ones."""
