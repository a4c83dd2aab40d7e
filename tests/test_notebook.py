"""The README's example in Python runs as it stands there."""

import os
import re
import subprocess
import sys
from pathlib import Path

from bcd.config import CONF

# What the example has made, told at its end: the task's parameters, the masks, and the images that they belong to.
LOOK = """
import cv2
shapes = {case.case_id: cv2.imread(str(case.image), cv2.IMREAD_GRAYSCALE).shape for case in data.cases["test"]}
assert masks and {name: mask.shape for name, mask in masks.items()} == shapes, (masks, shapes)
assert all(mask.dtype == bool for mask in masks.values())
assert trainer.current_epoch == 2 and "test/dice" in trainer.callback_metrics, trainer.callback_metrics
print("as promised")
"""


def test_the_example_in_the_readme_trains_tests_and_predicts(tmp_path: Path) -> None:
    text = (CONF.parent / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```$", text.partition("## From Python")[2], re.MULTILINE | re.DOTALL)
    assert "hydra" not in code
    done = subprocess.run(
        [sys.executable, "-c", code + LOOK],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("as promised\n")
