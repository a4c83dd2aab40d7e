"""What a service says of the bundle that it runs."""

from collections.abc import Mapping
from typing import Any

_PLAIN = (
    "name",
    "created",
    "made_by",
    "task",
    "classes",
    "lesion_free",
    "positive",
    "mask_threshold",
    "consistency",
    "conformal",
    "data",
    "training",
    "initial_weights",
    "weights_licence",
    "precision",
    "metrics",
    "intended_use",
    "limits",
    "research_use_only",
    "schema_version",
    "fingerprint",
)


def model_facts(bundle: Any, points: Mapping[str, float], hashes: Mapping[str, str]) -> dict[str, Any]:
    """Return JSON values about a bundle: all but its networks' configs and where it lies.

    Args:
        bundle: what the bundle says of itself.
        points: the operating points that can be asked for, with their thresholds.
        hashes: file of the bundle -> SHA-256.
    """
    decisions = bundle.decisions
    return {
        **{name: _plain(getattr(bundle, name)) for name in _PLAIN},
        "points": dict(points),
        "default_point": decisions.default_point,
        "thresholds_on": decisions.on,
        "thresholds_from": decisions.source,
        "thresholds_notes": list(decisions.notes),
        "networks": [
            {"name": one.name, "role": one.role, "fold": one.fold, "temperature": one.temperature} for one in bundle.networks
        ],
        "sha256": dict(hashes),
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, list | tuple) else value
