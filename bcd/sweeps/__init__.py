"""Sweeps: many runs over a search space, kept in a ledger that survives crashes, worked off by one or many processes or machines."""
