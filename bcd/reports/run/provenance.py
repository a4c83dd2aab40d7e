"""How the model came to be, and everything that made the numbers."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from bcd.reports.charts import training_chart
from bcd.reports.markup import Html, element, figure, folded, joined, table
from bcd.reports.run.overview import model_name
from bcd.reports.run.results import Results, Section
from bcd.reports.svg import to_svg
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
    "processor": "energy of the machine's processors in training (Wh), whatever ran on them",
    "gpu": "energy of the GPUs in training (Wh), whatever ran on them",
}


def training(results: Results) -> Section | None:
    """Return how the model was trained, with its curves."""
    told = results.metrics.get("training") or {}
    rows = [["network", model_name(results.config)]] if model_name(results.config) else []
    rows += [[words, _plainly(told[key])] for key, words in _TRAINING.items() if told.get(key) is not None]
    charts = _curves(results)
    if not rows and not charts:
        return None
    parts = [table(["training", ""], rows, text=(1,)) if rows else Html(""), _of_folds(results), _cost(results)]
    parts.append(element("div", *charts, class_="charts"))
    return Section("training", "Training", joined(parts))


def _of_folds(results: Results) -> Html:
    """Return what the trainings of a cross-validation do not share, fold by fold."""
    told = (results.metrics.get("training") or {}).get("folds") or []
    numbers = [entry["fold"] for entry in results.data.get("folds") or []]
    if not told or len(numbers) != len(told):
        return Html("")
    keys = [key for key in _TRAINING if any(one.get(key) != told[0].get(key) for one in told)]
    rows = [[_TRAINING[key], *(None if one.get(key) is None else _plainly(one[key]) for one in told)] for key in keys]
    return table(["each fold", *(f"fold {number}" for number in numbers)], rows) if rows else Html("")


def _cost(results: Results) -> Html:
    """Return what the run cost: what was measured, and of energy why it was not, where it was not."""
    cost = results.metrics.get("cost") or {}
    rows = [[words, _plainly(cost[key])] for key, words in _COST.items() if cost.get(key) is not None]
    energy, problems = cost.get("energy_j") or {}, cost.get("energy_not_readable") or {}
    for name, words in _ENERGY.items():
        if energy.get(name) is not None:
            rows.append([words, f"{energy[name] / 3600:.4g}"])
        elif name in energy:
            rows.append([words, f"not readable here: {portable(str(problems.get(name, 'nobody knows why')))}"])
    return table(["cost", ""], rows, text=(1,)) if rows else Html("")


def _plainly(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else number(value)


def _curves(results: Results) -> list[Html]:
    history = results.history
    if history is None or len(history) < 2 or "epoch" not in history:
        return []
    columns = [str(column) for column in history.columns]
    names = sorted({name.partition("/")[2] for name in columns if name.startswith("val/")}, key=lambda name: (name != "loss", name))
    monitored = str((results.metrics.get("training") or {}).get("monitor", "")).partition("/")[2]
    names.sort(key=lambda name: (name != "loss", name != monitored))
    drawn = []
    for place, name in enumerate(names[:_CHARTS]):
        last = history[f"val/{name}"].dropna()
        words = f"{name.replace('_', ' ')} over {len(history)} epochs" + (
            f"; at the end {last.iloc[-1]:.3f} on validation" if len(last) else ""
        )
        drawn.append(figure(to_svg(training_chart(history, name), f"training-{place}", f"Training curve: {words}."), words))
    return drawn


def provenance(results: Results) -> Section:
    """Return config, code version, fingerprints, seeds, versions, hardware and time."""
    metrics, data, made = results.metrics, results.data, results.metrics.get("provenance") or {}
    facts = {
        "code": " ".join(str(part) for part in (made.get("bcd"), made.get("commit")) if part),
        "data fingerprint": data.get("fingerprint"),
        "split, SHA-256": data.get("split_sha256"),
        "seed": metrics.get("seed"),
        "checkpoint": metrics.get("checkpoint"),
        "hardware": _inline(made.get("hardware")),
        "command": made.get("command"),
        "finished": made.get("finished"),
    }
    rows = [[name, portable(str(value))] for name, value in facts.items() if value not in (None, "")]
    libraries = [
        [name, version] for name, version in {"python": made.get("python"), **(made.get("libraries") or {})}.items() if version
    ]
    parts: list[object] = [table(["what", "value"], rows, text=(1,), class_="facts")]
    if libraries:
        parts.append(folded("Versions of the libraries", table(["library", "version"], libraries, text=(1,))))
    told = {key: metrics[key] for key in ("training", "data", "guide") if metrics.get(key)}
    told["data"] = {key: value for key, value in data.items() if key not in ("left_out_cases", "skipped", "crossings")}
    parts.append(folded("What metrics.json says of it", element("pre", portable(json.dumps(told, indent=2, ensure_ascii=False)))))
    if results.config:
        config = yaml.safe_dump(dict(results.config), sort_keys=False, allow_unicode=True)
        parts.append(folded("The whole config", element("pre", portable(config))))
    return Section("provenance", "What made it", joined(parts))


def portable(text: str) -> str:
    """Return a text without the name of the user's home folder: a report is shown to others."""
    home = str(Path.home())
    return text.replace(home, "~") if len(home) > 1 else text


def _inline(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_inline(part)}" for key, part in value.items() if part not in (None, [], {}))
    return ", ".join(map(_inline, value)) if isinstance(value, list) else str(value if value is not None else "")
