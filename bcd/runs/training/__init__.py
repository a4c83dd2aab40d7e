"""A run's training."""
