"""From segmentation to mask-guided classification: cross-fitted masks, classifiers side by side, both refitted for use."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bcd.runs import folder as files
from bcd.runs.signals import RunStopped
from bcd.runs.studies.crossval import leave

log = logging.getLogger(__name__)

SCRIPT = "pipeline"


def pipeline(config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Cross-fit, classify, compare and refit, or resume; return the content of metrics.json.

    Args:
        config: resolved, plain, as `conf/pipeline.yaml` composes it. With `resume`, a folder, all else is taken from there.
        folder: of the pipeline: `segmentation/`, `strict/`, `classification/<row>/`, `deploy/`, and the table of all rows.

    Raises:
        ValueError: for anything in the config or the data that cannot work, before the first training.
        RunError: when the folder is not a pipeline's, or holds a run already.
        KeyboardInterrupt: after Ctrl-C; what is finished is kept.
        SystemExit: after SIGTERM.
    """
    if config.get("resume") is not None:
        folder = Path(config["resume"])
        config = files.go_on(folder, config.get("trusted", ()), SCRIPT)
    else:
        config = files.begin(folder, {**_checked(config), "study": SCRIPT})
    from bcd.runs.studies.pipeline.steps import run_steps  # late: the config is written before torch is imported

    try:
        return run_steps(config, folder)
    except (RunStopped, KeyboardInterrupt, SystemExit) as stop:
        leave(stop, f"What is finished is kept; go on with the whole pipeline: python scripts/{SCRIPT}.py resume={folder}")


def _checked(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config with its paths made whole; what cannot work is refused before there is a folder."""
    from bcd.runs.studies.pipeline.stages import SEGMENTATION, check_rows, stage_config

    check_rows(config["rows"], config["deploy_row"] if config["deploy"] else None)
    for stage in (SEGMENTATION, *config["rows"]):
        stage_config(config, stage, config["data"], Path(config["folder"]) / stage)
    given = config["segmentation"]
    return {**config, "segmentation": str(Path(given).absolute()) if given is not None else None}
