"""Data sets: each turns its folder into cases."""
