"""Metrics: small functions under thin stateful shells."""
