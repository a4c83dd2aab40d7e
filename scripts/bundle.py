"""Write a bundle of a run, or check one: python scripts/bundle.py run=outputs/... output=bundles/..."""

import logging
from pathlib import Path
from typing import Any

from bcd.config import command

log = logging.getLogger(__name__)


@command("bundle")
def main(config: dict[str, Any], folder: Path) -> None:
    """Write the trained model of a run as one folder that others can use: weights, description, model card, examples.

    With verify=, check a bundle: no file may have changed, and its examples must give the same results as when it was written.
    """
    if (config["run"] is None) == (config["verify"] is None) or (config["run"] is None) != (config["output"] is None):
        raise ValueError("Give run=<a run's folder> output=<a new folder>, or verify=<a bundle>.")
    if config["verify"] is not None:
        from bcd.predictor.bundles.examples import verify  # keeps --help fast

        for line in verify(Path(config["verify"]), config["trusted"]):
            log.info("%s", line)
        return
    from bcd.predictor.bundles.write import write_bundle
    from bcd.runs.bundle import BundleOptions, collect_bundle, training_images

    segmentation = Path(config["segmentation"]) if config["segmentation"] is not None else None
    point = str(config["point"]) if config["point"] is not None else None  # 0.5 is typed as a number
    chosen = ("name", "consistency", "data_licence", "data_citation", "trusted")
    options = BundleOptions(
        **{name: config[name] for name in chosen}, point=point, figures=[Path(one) for one in config["figures"]]
    )
    content = collect_bundle(Path(config["run"]), segmentation, options)
    images = training_images(content)
    bundle = write_bundle(
        Path(config["output"]), content.about, content.states, content.card, images, config["precision"], config["trusted"]
    )
    log.info("Bundle: %s, fingerprint %s", config["output"], bundle.fingerprint)


if __name__ == "__main__":
    main()
