"""Losses: pure functions of matrices. They hold no state, draw nothing, normalise nothing and gather nothing.

``sim_NM`` is similarity divided by temperature (larger is closer), ``valid_NM`` False means never use this pair.
Every contrastive loss is a mean over the anchors with at least one usable term, and 0 with a live graph if there
is none. Half precision is computed in float32; float64 stays.
"""
