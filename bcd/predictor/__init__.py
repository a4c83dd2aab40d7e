"""Prediction with a trained model."""
