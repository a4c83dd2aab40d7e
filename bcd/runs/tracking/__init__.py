"""Trackers: what a run tells CSV files, TensorBoard, Weights & Biases, MLflow, or a logger of the user's own."""
