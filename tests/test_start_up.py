"""A command loads what it uses: the modules at its end hold none of what only training and reports need."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BUNDLE = ROOT / "bundles" / "busbra"
IMAGE = BUNDLE / "examples" / "benign.png"

TRAINING = ("lightning", "torchmetrics", "sklearn", "pandas", "matplotlib", "optuna", "albumentations", "wandb", "captum")
NETWORK_LIBRARIES = ("timm", "segmentation_models_pytorch", "torchvision")
COMPILER = ("torch._dynamo", "torch._inductor", "sympy")
OURS = ("bcd.losses", "bcd.tasks.base", "bcd.data.datamodule", "bcd.runs")

# What is run, and what it must not load.
CASES = {
    "help": ("sys.argv = ['predict.py', '--help']; script('predict')", ("torch", *TRAINING, *NETWORK_LIBRARIES, *OURS)),
    "predict": (
        f"sys.argv = ['predict.py', 'bundle={BUNDLE}', 'input={IMAGE}', 'output=' + output]; script('predict')",
        (*TRAINING, *OURS, *COMPILER, "pydicom", "scipy.optimize", "scipy.stats"),
    ),
    "page and service": (
        f"from pathlib import Path; from bcd.predictor.predictor import Predictor; Predictor.load(Path({str(BUNDLE)!r}))",
        (*TRAINING, *OURS, *COMPILER, "pydicom", "scipy.optimize", "scipy.stats"),
    ),
    "an exported network": (
        "from bcd.tasks.networks import inference_network; import bcd.predictor.predictor, torch; "
        "task = {'_target_': 'bcd.tasks.segmentation.SegmentationTask', 'model': {'_target_': 'bcd.models.segmentation.UNet'}, "
        "'threshold': 0.5}; inference_network(task, model=torch.nn.Identity())",
        (*TRAINING, *NETWORK_LIBRARIES, *OURS, *COMPILER),
    ),
    "a network of ours": (
        "from bcd.tasks.networks import inference_network; model = {'_target_': 'bcd.models.attention_unet.AttentionUNet', "
        "'channels': [4, 8]}; task = {'_target_': 'bcd.tasks.segmentation.SegmentationTask', 'model': model, 'threshold': 0.5}; "
        "import torch; inference_network(task).eval()(torch.zeros(1, 1, 32, 32))",
        (*TRAINING, *NETWORK_LIBRARIES, *OURS, *COMPILER),
    ),
}
START = """
import atexit, json, runpy, sys
output, listed = sys.argv[1:3]
sys.path.insert(0, {root!r})
def script(name):
    runpy.run_path({root!r} + "/scripts/" + name + ".py", run_name="__main__")
atexit.register(lambda: open(listed, "w").write(json.dumps(sorted(sys.modules))))
"""


@pytest.mark.parametrize("name", CASES)
def test_a_command_loads_nothing_that_it_does_not_use(name: str, tmp_path: Path) -> None:
    code, absent = CASES[name]
    listed = tmp_path / "modules.json"
    start = START.format(root=str(ROOT)) + code
    done = subprocess.run(
        [sys.executable, "-c", start, str(tmp_path / "out"), str(listed)], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    modules = json.loads(listed.read_text(encoding="utf-8"))
    loaded = sorted({one for one in absent for module in modules if module == one or module.startswith(f"{one}.")})
    assert not loaded, f"{name} loads {', '.join(loaded)}"
