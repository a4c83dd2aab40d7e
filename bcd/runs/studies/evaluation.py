"""Which of the three evaluations a command asks for: a run's own test, an external validation, another tool's predictions."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bcd.runs import folder as files


def evaluation(config: Mapping[str, Any]) -> dict[str, Any]:
    """Evaluate as the command says, print the figures, and return the content of metrics.json.

    Args:
        config: resolved, plain, as `conf/evaluate.yaml` composes it.

    Raises:
        ValueError: for a command that asks for none of the three, or for two at once.
    """
    run = Path(config["run"]).expanduser() if config["run"] is not None else None
    another = config["data"].get("name") is not None
    if (run is None) == (config["predictions"] is None):
        raise ValueError("Give run=<a run's folder>, or predictions=<a folder of masks or a CSV> with data=<the data set>.")
    if run is None and not another:
        raise ValueError("predictions= need data=<the data set that they are of>, such as data=busi.")
    if (run is None or another) and config["output"] is None:
        raise ValueError("Give output=<folder> for the results: they are neither the run's own nor part of the predictions.")
    if run is not None and not another and config["fold"] is not None:
        raise ValueError("fold= is for another data set or for predictions=; a run is tested on its own fold.")
    output = Path(config["output"]).expanduser() if config["output"] is not None else None
    if output is not None and (run is None or output.absolute() != run.absolute()) and (output / files.CONFIG).is_file():
        raise ValueError(f"{output} holds a run, whose results would be overwritten; choose another output=.")
    if run is not None and not _is_crossval(run):
        files.best_checkpoint(run)  # a run that did not get so far is refused before torch is imported
    from bcd.runs.table import print_results

    if run is None and output is not None:
        metrics = _refereed(config, output)
    elif run is not None and another and output is not None:
        metrics = _external(config, run, output)
    else:
        metrics = _again(config, run or Path(), output)
    print_results(metrics, output or run or Path())
    return metrics


def _is_crossval(run: Path) -> bool:
    return any(run.glob(f"fold_*/{files.CONFIG}"))


def _refereed(config: Mapping[str, Any], output: Path) -> dict[str, Any]:
    from bcd.runs.testing.foreign import score_predictions

    settings = {**config, "output": config["prepared"], "data": dict(config["data"])}
    return score_predictions(config["predictions"], settings, output, config["fold"], config["on_error"])


def _external(config: Mapping[str, Any], run: Path, output: Path) -> dict[str, Any]:
    from bcd.runs.testing.external import evaluate_external

    data, guide = dict(config["data"]), _given(config["guide"])
    return evaluate_external(run, data, output, config["fold"], guide, config["trusted"], config["on_error"])


def _again(config: Mapping[str, Any], run: Path, output: Path | None) -> dict[str, Any]:
    overrides = {name: _given(config[name]) for name in ("data", "guide")}
    if _is_crossval(run):
        from bcd.runs.studies.crossval import evaluate_folds

        return evaluate_folds(run, output or run, overrides, config["trusted"])
    from bcd.runs.testing.evaluate import evaluate

    return evaluate(run, output, overrides, config["trusted"])


def _given(node: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in node.items() if value is not None}
