"""Prediction over many files."""
