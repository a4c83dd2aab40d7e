"""Losses: logits and truth in, one number out."""
