"""The trainer: the one Lightning adapter, optimisers and schedules, monitors, checkpoints, seeding."""
