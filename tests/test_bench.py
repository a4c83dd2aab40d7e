from pathlib import Path

import pytest

from bcd.runs.bench import bench


@pytest.mark.slow
def test_the_three_ways_are_measured_side_by_side(tmp_path: Path) -> None:
    rows = bench({"networks": ["unet"], "steps": 2, "rounds": 2, "output": str(tmp_path)})
    assert [row["network"] for row in rows] == ["unet"]
    assert all(rows[0][name] > 0 for name in ("bcd", "plain", "bare", "over_plain", "over_bare"))
