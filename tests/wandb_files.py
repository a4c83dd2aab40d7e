"""Reads what Weights & Biases keeps offline."""

import json
from pathlib import Path
from typing import Any

from bcd.runs.tracking.servers import offline_parts, offline_records


def of_run(folder: Path) -> list[Any]:
    """Return the records of all parts of a run, in the order in which they began."""
    return [record for path in offline_parts(folder) for record in offline_records(path)]


def points(folder: Path) -> list[tuple[str, int, Any]]:
    """Return all that was logged, as (name, step, value); of pictures and pages the entry `_type`."""
    found = []
    for record in of_run(folder):
        if record.WhichOneof("record_type") == "history":
            for item in record.history.item:
                name = item.key or "/".join(item.nested_key)
                found.append((name.removesuffix("/_type"), record.history.step.num, json.loads(item.value_json)))
    return found
