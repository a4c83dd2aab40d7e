import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    import torch

    for item in items:
        if item.get_closest_marker("realdata") and not os.environ.get("BCD_DATA"):
            item.add_marker(pytest.mark.skip(reason="BCD_DATA, the folder that holds busi/ and busbra/, is not set"))
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture(autouse=True)
def _main_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bring the main module back: streamlit puts its page there, and a process that is spawned later would run that."""
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])


@pytest.fixture(scope="session")
def busi() -> Path:
    return Path(os.environ["BCD_DATA"]) / "busi"


@pytest.fixture(scope="session")
def busbra() -> Path:
    return Path(os.environ["BCD_DATA"]) / "busbra"
