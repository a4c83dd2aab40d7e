"""Exports of a bundle's networks to other formats."""
