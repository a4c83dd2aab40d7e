"""Data: from a folder to batches."""

import os

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else importing albumentations asks the package index for a newer version
