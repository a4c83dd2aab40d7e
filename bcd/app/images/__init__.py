"""The page of images: segmentation, classification and measurements."""
