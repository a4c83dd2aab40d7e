"""Export a bundle's networks to other runtimes: python scripts/export.py bundle=bundles/... format=openvino precision=int8."""

import logging
from pathlib import Path
from typing import Any

from bcd.config import command

log = logging.getLogger(__name__)


@command("export")
def main(config: dict[str, Any], folder: Path) -> None:
    """Write a bundle's networks for onnxruntime or OpenVINO into the bundle, with a certificate that the results are the same.

    If they are not, within the tolerance of the precision, nothing is written, and the command fails.
    """
    if config["calibration"] is not None and config["run"] is not None:
        raise ValueError("Give run= or calibration=, not both.")
    if config["precision"] != "int8" and (config["calibration"] is not None or config["run"] is not None):
        raise ValueError("run= and calibration= are for precision=int8; nothing else is calibrated.")
    import torch  # keeps --help fast

    from bcd.predictor.exports.export import ExportOptions, Images, export, images_of

    if config["threads"] is not None:
        torch.set_num_threads(config["threads"])
    calibration = images_of(Path(config["calibration"])) if config["calibration"] is not None else None
    further = [images_of(Path(config["images"]))] if config["images"] is not None else []
    if config["run"] is not None:
        from bcd.runs.bundle import BundleOptions, collect_bundle, training_images

        content = collect_bundle(Path(config["run"]), options=BundleOptions(trusted=config["trusted"]))
        learned = training_images(content, 2 * config["calibration_images"])
        if learned is None:
            raise ValueError(f"run={config['run']}: its training images are not there; give calibration=<a folder of images>.")
        images = list(learned[0])
        calibration = Images("training images of the run", images[::2])
        further.append(Images("other training images of the run", images[1::2]))
    names = ("format", "precision", "calibration_images", "trusted")
    options = ExportOptions(**{name: config[name] for name in names}, calibration=calibration, further=further)
    certificate = export(Path(config["bundle"]), options)
    for name, parity in certificate["images"].items():
        log.info("On %s: %s", name, ", ".join(f"{key} {value:.4g}" for key, value in parity.items() if value is not None))
    log.info("Exported: %s", Path(config["bundle"]) / "exports" / options.name)


if __name__ == "__main__":
    main()
