"""Writing a bundle."""

import hashlib
import json
import logging
import shutil
import tempfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from torch import Tensor

from bcd.files import write_bytes, write_text
from bcd.predictor.bundle import CARD, DESCRIPTION, SCOPE, Bundle, read_bundle
from bcd.predictor.bundles.examples import write_examples
from bcd.predictor.bundles.hashes import BundleError, seal
from bcd.predictor.networks import halved, to_bytes
from bcd.predictor.predictor import Predictor
from bcd.predictor.scope import ScopeModel

log = logging.getLogger(__name__)


def write_bundle(
    output: Path,
    about: Mapping[str, Any],
    states: Mapping[str, Mapping[str, Tensor]],
    card: str,
    images: tuple[Iterable[np.ndarray], Sequence[str]] | None = None,
    precision: str = "fp32",
    trusted: Collection[str] = (),
) -> Bundle:
    """Write a bundle, whole or not at all; return its description.

    Args:
        output: the bundle's folder; absent or empty.
        about: the content of bundle.yaml.
        states: name of a network -> its weights.
        card: the model card, Markdown.
        images: that the networks learned from, grey uint8 (H, W), and the group of each: what is unlike them will be warned of.
            They are read one by one. None, or if they cannot be used: the bundle has no scope model, and the log states this.
        precision: `fp32` or `fp16`, of the stored weights; they work in float32 all the same.
        trusted: constructors of the user's own that the description may name.

    Raises:
        BundleError: for a folder that holds something, a description that cannot be, or weights that float16 cannot hold.
    """
    output = Path(output)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise BundleError(f"output={output} is there already; choose another folder, or delete it.")
    bundle = Bundle.from_dict({**about, "precision": precision})
    output.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=output.parent, prefix=f".{output.name}."))
    try:
        aside.chmod(0o755)  # mkdtemp makes folders that colleagues cannot read
        if images is not None:
            try:
                ScopeModel.fit(images[0], groups=images[1]).save(aside / SCOPE)
            except (ValueError, OSError) as error:
                log.warning("The training images cannot be used (%s): the bundle will not warn of images unlike them.", error)
        write_text(aside / DESCRIPTION, yaml.safe_dump(bundle.to_dict(), sort_keys=False, allow_unicode=True, width=120))
        write_text(aside / CARD, card)
        for network in bundle.networks:
            state = states[network.name]
            write_bytes(aside / network.weights, to_bytes(halved(state) if precision == "fp16" else state))
        seal(aside)
        write_examples(aside, Predictor.load(aside, "cpu", trusted=trusted))
        seal(aside)
        if output.exists():
            output.rmdir()
        aside.rename(output)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return read_bundle(output)


def bundle_of(about: Mapping[str, Any], states: Mapping[str, Mapping[str, Tensor]]) -> Bundle:
    """Return the description of a bundle that lies nowhere; its fingerprint depends on the weights.

    Raises:
        BundleError: for a description that cannot be.
    """
    lasting = {key: value for key, value in about.items() if key not in ("created", "made_by")}
    digest = hashlib.sha256(json.dumps(lasting, sort_keys=True).encode())
    for name in sorted(states):
        digest.update(to_bytes(states[name]))
    return Bundle.from_dict(about, fingerprint=digest.hexdigest())
