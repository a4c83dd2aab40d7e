"""Runs: assemble, train, test, and keep what made the numbers."""
