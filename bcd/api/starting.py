"""From a config to a service that answers."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bcd.api.application import create_app
from bcd.api.limits import Limits
from bcd.api.server import Listening, serve
from bcd.predictor.bundles.default import released_bundle
from bcd.predictor.bundles.hashes import read_hashes
from bcd.predictor.predictor import Predictor

log = logging.getLogger(__name__)


def start(config: Mapping[str, Any], token: str | None) -> None:
    """Serve until the process is told to end.

    Args:
        config: of `conf/serve_api.yaml`.
        token: what clients must show; None for nothing.

    Raises:
        ValueError: for a bundle or limits that cannot work.
    """
    limits = Limits.of(config["limits"])
    listening = Listening(config["host"], config["port"], **config["listening"])
    folder = Path(config["bundle"]).expanduser() if config["bundle"] is not None else _own_bundle()
    predictor = Predictor.load(folder, config["device"], config["export"], config["trusted"])
    app = create_app(predictor, limits, token, config["decoders"], read_hashes(folder))
    log.info("Bundle %s (%s), fingerprint %s", predictor.bundle.name, predictor.bundle.task, predictor.bundle.fingerprint[:12])
    if predictor.bundle.synthetic:
        log.warning("This bundle learned from simulated images; what it says about a patient's image means nothing.")
    serve(app, listening, has_token=token is not None)


def _own_bundle() -> Path:
    """Return the bundle that comes with the project.

    Raises:
        ValueError: where there is none.
    """
    found = released_bundle()
    if found is not None:
        return found
    make = "python scripts/bundle.py run=<a run's folder> output=my_bundle"
    raise ValueError(f"No bundle comes with this copy of the project. Make one, and give bundle=my_bundle: {make}")
