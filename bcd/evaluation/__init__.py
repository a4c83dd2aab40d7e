"""Evaluation: from predictions to figures, pictures and a report."""
