"""bcd: breast-ultrasound segmentation, classification and mask-guided ROI classification."""

import os

# From version 1.29 on, onnxruntime sends what it is used for over the network from the moment it is imported, by whomever.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"
