"""One evaluation, three sources of predictions: a run, a bundle, or the files of another tool."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bcd.runs import folder as files

if TYPE_CHECKING:
    from bcd.runs.testing.external import FixedModel

# What takes seconds to import is imported where a source needs it.


def evaluation(config: Mapping[str, Any], open_bundle: Callable[[Path], "FixedModel"]) -> dict[str, Any]:
    """Evaluate as the command says, print the figures, and return the content of metrics.json.

    Args:
        config: resolved, plain, as `conf/evaluate.yaml` composes it.
        open_bundle: returns the model of a bundle's folder.

    Raises:
        ValueError: for a command that names no source, or two, or too little about it.
    """
    sources = {name: config[name] for name in ("run", "bundle", "predictions") if config[name] is not None}
    if len(sources) != 1:
        raise ValueError(
            "Give one of run=<a run's folder>, bundle=<a bundle's folder> with data=<a data set>, or predictions=<a folder of "
            f"masks or a CSV> with data=<the data set>; {' and '.join(sources) or 'none'} was given."
        )
    (source,) = sources
    run = Path(config["run"]).expanduser() if source == "run" else None
    other_data = config["data"].get("name") is not None
    if run is None and not other_data:
        raise ValueError(f"{source}= needs data=<the data set to evaluate on>, such as data=busi.")
    if (run is None or other_data) and config["output"] is None:
        raise ValueError("Give output=<folder> for the results: they are neither the run's own nor part of the predictions.")
    if run is not None and not other_data and config["fold"] is not None:
        raise ValueError("fold= is for another data set, a bundle or predictions=; a run is tested on its own fold.")
    output = Path(config["output"]).expanduser() if config["output"] is not None else None
    if output is not None and (run is None or output.absolute() != run.absolute()) and (output / files.CONFIG).is_file():
        raise ValueError(f"{output} holds a run, whose results would be overwritten; choose another output=.")
    if run is not None and not _is_crossval(run):
        files.best_checkpoint(run)  # a run that did not get so far is refused before torch is imported
    from bcd.runs.table import print_results

    fold, trusted, on_error = config["fold"], config["trusted"], config["on_error"]
    settings = {**config, "output": config["prepared"], "data": dict(config["data"])}
    if source == "bundle" and output is not None:
        from bcd.runs.testing.external import evaluate_bundle

        metrics = evaluate_bundle(open_bundle(Path(config["bundle"]).expanduser()), settings, output, fold, on_error)
    elif source == "predictions" and output is not None:
        from bcd.runs.testing.foreign import score_predictions

        metrics = score_predictions(config["predictions"], settings, output, fold, on_error)
    elif run is not None and other_data and output is not None:
        from bcd.runs.testing.external import evaluate_external

        metrics = evaluate_external(run, settings["data"], output, fold, _given(config["guide"]), trusted, on_error)
    else:
        metrics = _again(config, run or Path(), output)
    print_results(metrics, output or run or Path())
    return metrics


def _is_crossval(run: Path) -> bool:
    return any(run.glob(f"fold_*/{files.CONFIG}"))


def _again(config: Mapping[str, Any], run: Path, output: Path | None) -> dict[str, Any]:
    overrides = {name: _given(config[name]) for name in ("data", "guide")}
    if _is_crossval(run):
        from bcd.runs.studies.crossval import evaluate_folds

        return evaluate_folds(run, output or run, overrides, config["trusted"])
    from bcd.runs.testing.run import evaluate

    return evaluate(run, output, overrides, config["trusted"])


def _given(node: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in node.items() if value is not None}
