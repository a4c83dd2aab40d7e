"""Measure speed: python -m benchmarks.run."""

from pathlib import Path
from typing import Any

from bcd.config import command


@command("bench")
def main(config: dict[str, Any], folder: Path) -> None:
    """Compare training with a plain loop, distances with MONAI, exports with torch, searches with and without pruning; and more."""
    from benchmarks.distances import bench_distances
    from benchmarks.intervals import bench_intervals
    from benchmarks.scale import bench_scale
    from benchmarks.search import bench_search
    from benchmarks.sweeps import bench_sweeps
    from benchmarks.training import bench  # keeps --help fast

    if config["networks"]:
        bench(config)
    bench_search(config["search"])
    bench_scale(config["scale"])
    bench_distances(config["distances"])
    bench_intervals(config["intervals"])
    _bench_predictor(config["predictor"], config["output"])
    bench_sweeps(config["sweeps"], config["output"])


def _bench_predictor(settings: dict[str, Any], output: str) -> None:
    import tempfile

    from bcd.predictor.bundles.default import released_bundle
    from benchmarks.predictor import bench_predictor

    bundle = Path(settings["bundle"]) if settings["bundle"] is not None else released_bundle()
    if bundle is not None:
        bench_predictor(settings, bundle)
        return
    with tempfile.TemporaryDirectory(prefix="bcd-bench-") as folder:
        bench_predictor(settings, _phantom_bundle(Path(folder), settings["size"], output))


def _phantom_bundle(folder: Path, size: int, output: str) -> Path:
    """Return the bundle of a U-Net that learned from phantoms as long as it takes to outline them."""
    import json

    from bcd.config import compose
    from bcd.predictor.bundles.write import write_bundle
    from bcd.runs.bundle import collect_bundle, training_images
    from bcd.runs.training.train import train

    run = folder / "run"
    options = ["experiment=quickstart", f"preprocess.size={size}", "trainer.max_epochs=5", "logger=none"]
    train(compose("train", [*options, f"output={json.dumps(output)}"], run), run)
    content = collect_bundle(run)
    write_bundle(folder / "bundle", content.about, content.states, content.card, training_images(content))
    return folder / "bundle"


if __name__ == "__main__":
    main()
