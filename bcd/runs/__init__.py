"""Runs: assemble, train, test, and record the provenance of the results."""
