"""Unusual cases in a data set."""
