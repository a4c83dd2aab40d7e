"""The libraries that run exported models, or make them smaller: imported late, and kept from telling anybody of it.

As they are released, onnxruntime, openvino and nncf send usage data from their import on: the first unless ORT_DISABLE_TELEMETRY is
set before (`bcd/__init__.py`), the other two through the package openvino_telemetry, which also leaves an identifier in the user's
home. Both do without that package where it cannot be imported, and so it cannot be.
"""

import importlib
import logging
import os
import sys
from types import ModuleType

from bcd.predictor.bundles.hashes import BundleError

TELEMETRY = "openvino_telemetry"


def onnx() -> ModuleType:
    """Return onnx, or refuse with a sentence.

    Raises:
        BundleError: when it is not installed, as the other functions here do.
    """
    return _imported("onnx")


def onnxruntime() -> ModuleType:
    """Return onnxruntime, silent."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    module = _imported("onnxruntime")
    module.disable_telemetry_events()  # for the builds of Windows, which do not look at the variable
    return module


def openvino() -> ModuleType:
    """Return openvino, silent."""
    _without_telemetry()
    return _imported("openvino")


def nncf() -> ModuleType:
    """Return nncf, silent: its log shows warnings alone."""
    _without_telemetry()
    module = _imported("nncf")
    module.set_log_level(logging.WARNING)
    return module


def _without_telemetry() -> None:
    if sys.modules.get(TELEMETRY) is None:
        sys.modules[TELEMETRY] = None  # type: ignore[assignment]  # importing it is now an ImportError


def _imported(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise BundleError(f"Exported models need {name}, which is not installed: pip install 'bcd[export]'.") from error
