"""What metrics have gathered so far, as plain values: for a checkpoint in the middle of an epoch."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torchmetrics import Metric

States = dict[str, dict[str, Any]]


def metric_states(metrics: Mapping[str, Metric]) -> States:
    """Return for each metric its states, tensors or lists of tensors on the CPU, and how many batches made them.

    Where several processes share the cases, the states are those of all of them; every process must call this.
    """
    found: States = {}
    for name, metric in metrics.items():
        with metric.sync_context():
            states = {key: _on_cpu(value) for key, value in metric.metric_state.items()}
        found[name] = {"batches": metric.update_count, "states": states}
    return found


def restore_metric_states(metrics: Mapping[str, Metric], stored: States) -> None:
    """Put the states back; a metric that is not among them stays as it is."""
    for name, metric in metrics.items():
        if name not in stored:
            continue
        metric.reset()
        for key, before in metric.metric_state.items():
            value = stored[name]["states"][key]
            gathers = isinstance(before, list) and isinstance(value, Tensor)  # several processes' lists, made one
            setattr(metric, key, _on(metric, [value] if gathers else value))
        metric._update_count = stored[name]["batches"]


def _on_cpu(value: Tensor | list[Tensor]) -> Tensor | list[Tensor]:
    if isinstance(value, list):
        return [part.detach().cpu().clone() for part in value]
    return value.detach().cpu().clone()


def _on(metric: Metric, value: Tensor | list[Tensor]) -> Tensor | list[Tensor]:
    return [part.to(metric.device) for part in value] if isinstance(value, list) else value.to(metric.device)
