"""Bundles: written, and the one that the project ships."""
