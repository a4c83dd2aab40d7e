"""Trackers: logs of a run in CSV files, TensorBoard, Weights & Biases, MLflow, or a logger of the user's own."""
