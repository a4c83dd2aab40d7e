"""The description of the bundle that the service runs, at /model."""

from collections.abc import Mapping
from typing import Any

from fastapi.encoders import jsonable_encoder

_FIELDS = (
    *("name", "created", "made_by", "task", "classes", "lesion_free", "positive", "mask_threshold", "consistency", "conformal"),
    *("data", "training", "initial_weights", "weights_licence", "precision", "metrics", "intended_use", "limits"),
    *("research_use_only", "schema_version", "fingerprint"),
)


def model_info(bundle: Any, points: Mapping[str, float], hashes: Mapping[str, str]) -> dict[str, Any]:
    """Return JSON values about a bundle: all but its networks' configs and its folder.

    Args:
        bundle: the description.
        points: the operating points that can be asked for, with their thresholds.
        hashes: file of the bundle -> SHA-256.
    """
    decisions = bundle.decisions
    networks = [{name: getattr(one, name) for name in ("name", "role", "fold", "temperature")} for one in bundle.networks]
    info = {
        **{name: getattr(bundle, name) for name in _FIELDS},
        "points": points,
        "default_point": decisions.default_point,
        "thresholds_on": decisions.on,
        "thresholds_from": decisions.source,
        "thresholds_notes": decisions.notes,
        "networks": networks,
        "sha256": hashes,
    }
    return dict(jsonable_encoder(info))
