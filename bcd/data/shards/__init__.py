"""Data sets in shards."""
