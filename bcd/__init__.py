"""bcd: breast-ultrasound segmentation, classification and mask-guided ROI classification."""

__version__ = "0.1.0"
