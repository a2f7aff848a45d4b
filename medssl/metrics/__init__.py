"""Numbers that judge predictions and representations: numpy only, float64, no state."""
