"""Devices, processes, precision and shards."""
