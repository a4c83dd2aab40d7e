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
    result: States = {}
    for name, metric in metrics.items():
        with metric.sync_context():
            states = {
                key: [part.detach().cpu().clone() for part in value] if isinstance(value, list) else value.detach().cpu().clone()
                for key, value in metric.metric_state.items()
            }
        result[name] = {"batches": metric.update_count, "states": states}
    return result


def restore_metric_states(metrics: Mapping[str, Metric], stored: States) -> None:
    """Put the states back; a metric that is not among them stays as it is."""
    for name, metric in metrics.items():
        if name not in stored:
            continue
        metric.reset()
        for key, before in metric.metric_state.items():
            value = stored[name]["states"][key]
            if isinstance(before, list):
                parts = [value] if isinstance(value, Tensor) else value  # several processes' lists are made one
                setattr(metric, key, [part.to(metric.device) for part in parts])
            else:
                setattr(metric, key, value.to(metric.device))
        metric._update_count = stored[name]["batches"]
