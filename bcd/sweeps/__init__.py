"""Sweeps: many runs over a search space, in a ledger that survives crashes, worked off by any number of processes."""
