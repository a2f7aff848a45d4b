"""One scan: its file, its voxels, its preprocessing."""
