"""What made a result: code, libraries, hardware, command."""

import datetime
import importlib.metadata
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import bcd
from bcd.runs.hardware import describe

_LIBRARIES = ("torch", "torchvision", "lightning", "segmentation-models-pytorch", "timm", "torchmetrics", "albumentations")
_MORE_LIBRARIES = ("numpy", "scikit-learn", "opencv-python-headless", "hydra-core")


def provenance() -> dict[str, Any]:
    """Return versions, commit, hardware, command and time, as plain values."""
    return {
        "bcd": bcd.__version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "libraries": {name: _version(name) for name in (*_LIBRARIES, *_MORE_LIBRARIES)},
        "hardware": describe(),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:  # the same module may come from a package of another name
        return None


def _commit() -> str | None:
    """Return the commit of a checkout, marked where files were changed; None for an installed package."""
    root = Path(bcd.__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run(
            ["git", "status", "--porcelain"], cwd=root, capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{commit}{' with uncommitted changes' if changed else ''}"
