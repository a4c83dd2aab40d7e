"""Data: from a folder to batches."""
