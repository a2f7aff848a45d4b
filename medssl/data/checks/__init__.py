"""What is wrong with a cohort before anybody trains on it."""
