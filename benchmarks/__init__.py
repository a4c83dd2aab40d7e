"""Benchmarks of speed, memory and scale."""
