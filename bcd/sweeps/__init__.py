"""Sweeps: many runs over a search space, in a ledger that survives crashes, run by any number of processes."""
