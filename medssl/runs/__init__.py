"""Run folders: what is in them, where it came from, how they are trained, continued, loaded and finished."""
