"""Part of the scan is hidden and predicted from the rest."""
