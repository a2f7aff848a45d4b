"""Trained encoders as files for other programs: the submission to the OpenBHB challenge."""
