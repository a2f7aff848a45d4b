"""Many trainings at once: benchmarks and studies."""
