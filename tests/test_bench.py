from pathlib import Path

import numpy as np
import pytest

from benchmarks.search import peak_mb, peak_since_now
from benchmarks.training import bench


@pytest.mark.slow
def test_the_three_ways_are_measured_side_by_side(tmp_path: Path) -> None:
    rows = bench({"networks": ["unet"], "steps": 2, "rounds": 2, "output": str(tmp_path)})
    assert [row["network"] for row in rows] == ["unet"]
    assert all(rows[0][name] > 0 for name in ("bcd", "plain", "bare", "over_plain", "over_bare"))


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux tells the peak of a process from a moment on")
def test_the_memory_of_a_search_is_its_own_and_not_what_came_before() -> None:
    assert np.ones(40_000_000).sum() == 40_000_000  # 305 MB, given back before the measurement
    before = peak_since_now()
    assert np.ones(10_000_000).sum() == 10_000_000
    after = peak_mb()
    assert before is not None
    assert after is not None
    assert after - before == pytest.approx(76.3, abs=10)
