"""Data sets made ready."""
