"""Where cohorts come from: folders of scans (BIDS, flat, plain) and the synthetic generator."""
