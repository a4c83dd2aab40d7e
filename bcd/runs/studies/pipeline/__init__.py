"""From segmentation to mask-guided classification."""
