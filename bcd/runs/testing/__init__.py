"""A run's test."""
