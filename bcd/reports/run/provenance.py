"""Training of the model, and the provenance of the figures."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from bcd.reports.charts import training_chart
from bcd.reports.rendering import Picture, Table, chart
from bcd.reports.run.overview import model_name
from bcd.reports.run.results import Results, Section
from bcd.reports.wording import number

_CHARTS = 4
_TRAINING = {
    "initial_weights": "started from",
    "epochs": "epochs",
    "best_epoch": "chosen epoch",
    "monitor": "chosen by (on validation)",
    "best_value": "its value there",
    "images_seen": "training images shown, repeats included",
    "parameters": "parameters of the network",
    "precision": "precision",
    "device": "device",
    "train_seconds": "training time (s)",
}
_COST = {
    "train_seconds": "training time, validation included (s)",
    "images_per_second": "training images a second, validation time included",
    "peak_memory_mib": "memory of the training process at its peak (MiB)",
    "peak_gpu_memory_mib": "GPU memory at its peak (MiB)",
    "test_seconds": "time of the test (s)",
    "test_images_per_second": "test images a second, scoring included",
}
_ENERGY = {
    "processor": "energy of the processors in training (Wh), all of the machine's work included",
    "gpu": "energy of the GPUs in training (Wh), all of the machine's work included",
}


def training(results: Results) -> Section | None:
    """Return how the model was trained, with its curves."""
    values = results.metrics.get("training") or {}
    rows = [["network", model_name(results.config)]] if model_name(results.config) else []
    rows += [[words, _plainly(values[key])] for key, words in _TRAINING.items() if values.get(key) is not None]
    charts = _curves(results)
    if not rows and not charts:
        return None
    tables = [Table(["training", "value"], rows, text=(1,)), *_of_folds(results), *_cost(results)]
    filled = [table for table in tables if table.rows]
    return Section(id="training", title="Training", tables=filled, charts=charts)


def _of_folds(results: Results) -> list[Table]:
    """Return the values that differ between the trainings of a cross-validation, fold by fold."""
    trainings = (results.metrics.get("training") or {}).get("folds") or []
    numbers = [entry["fold"] for entry in results.data.get("folds") or []]
    if not trainings or len(numbers) != len(trainings):
        return []
    keys = [key for key in _TRAINING if any(one.get(key) != trainings[0].get(key) for one in trainings)]
    rows = [[_TRAINING[key], *(None if one.get(key) is None else _plainly(one[key]) for one in trainings)] for key in keys]
    return [Table(["each fold", *(f"fold {number}" for number in numbers)], rows)]


def _cost(results: Results) -> list[Table]:
    """Return what the run cost; where energy was not measured, the reason."""
    cost = results.metrics.get("cost") or {}
    rows = [[words, _plainly(cost[key])] for key, words in _COST.items() if cost.get(key) is not None]
    energy, problems = cost.get("energy_j") or {}, cost.get("energy_not_readable") or {}
    for name, words in _ENERGY.items():
        if energy.get(name) is not None:
            rows.append([words, f"{energy[name] / 3600:.4g}"])
        elif name in energy:
            rows.append([words, f"not readable here: {portable(str(problems.get(name, 'for an unknown reason')))}"])
    return [Table(["cost", "value"], rows, text=(1,))]


def _plainly(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else number(value)


def _curves(results: Results) -> list[Picture]:
    history = results.history
    if history is None or len(history) < 2 or "epoch" not in history:
        return []
    columns = [str(column) for column in history.columns]
    names = sorted({name.partition("/")[2] for name in columns if name.startswith("val/")}, key=lambda name: (name != "loss", name))
    monitored = str((results.metrics.get("training") or {}).get("monitor", "")).partition("/")[2]
    names.sort(key=lambda name: (name != "loss", name != monitored))
    charts = []
    for name in names[:_CHARTS]:
        last = history[f"val/{name}"].dropna()
        words = f"{name.replace('_', ' ')} over {len(history)} epochs"
        words += f"; at the end {last.iloc[-1]:.3f} on validation" if len(last) else ""
        charts.append(chart(training_chart(history, name), words, f"Training curve: {words}."))
    return charts


def provenance(results: Results) -> Section:
    """Return config, code version, fingerprints, seeds, versions, hardware and time."""
    metrics, data, origin = results.metrics, results.data, results.metrics.get("provenance") or {}
    facts = {
        "code": " ".join(str(part) for part in (origin.get("bcd"), origin.get("commit")) if part),
        "data fingerprint": data.get("fingerprint"),
        "split, SHA-256": data.get("split_sha256"),
        "seed": metrics.get("seed"),
        "checkpoint": metrics.get("checkpoint"),
        "hardware": _inline(origin.get("hardware")),
        "command": origin.get("command"),
        "finished": origin.get("finished"),
    }
    rows = [[name, portable(str(value))] for name, value in facts.items() if value not in (None, "")]
    libraries = [
        [name, version] for name, version in {"python": origin.get("python"), **(origin.get("libraries") or {})}.items() if version
    ]
    details = {key: metrics[key] for key in ("training", "data", "guide") if metrics.get(key)}
    details["data"] = {key: value for key, value in data.items() if key not in ("left_out_cases", "skipped", "crossings")}
    folded: list[tuple[str, str | list[Table]]] = []
    if libraries:
        folded.append(("Versions of the libraries", [Table(["library", "version"], libraries, text=(1,))]))
    folded.append(("Details from metrics.json", portable(json.dumps(details, indent=2, ensure_ascii=False))))
    if results.config:
        config = yaml.safe_dump(dict(results.config), sort_keys=False, allow_unicode=True)
        folded.append(("The whole config", portable(config)))
    return Section(id="provenance", title="Provenance", tables=[Table(["item", "value"], rows, text=(1,))], folded=folded)


def portable(text: str) -> str:
    """Return a text without the user's home folder: a report is shown to others."""
    home = str(Path.home())
    return text.replace(home, "~") if len(home) > 1 else text


def _inline(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_inline(part)}" for key, part in value.items() if part not in (None, [], {}))
    return ", ".join(map(_inline, value)) if isinstance(value, list) else str(value if value is not None else "")
