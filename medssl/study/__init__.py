"""Studies: one recipe trained over a grid or a search of settings, chosen by people and sites held out of train."""
