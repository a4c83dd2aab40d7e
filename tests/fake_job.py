"""A job that trains nothing: it notes that it ran, sleeps, and leaves the outcome of its params. `fake_job.py <folder>`."""

import json
import sys
import time
from pathlib import Path

import yaml

folder = Path(sys.argv[1])
config = yaml.safe_load((folder / "config.yaml").read_text())
rate, seed = config["optimizer"]["lr"], config["seed"]
with (folder.parent / "began.txt").open("a") as file:
    file.write(f"{folder.name}\n")
if rate == 0.5:
    sys.stderr.write("error: the rate is too high.\n")
    sys.exit(1)
time.sleep(0.3)
outcome = {"state": "done", "figures": {"val/dice": 1 - abs(rate - 0.01) - 0.001 * seed, "parameters": 1e6, "train_seconds": 0.3}}
if (folder / "outcome.json").exists():
    sys.stderr.write("error: done twice.\n")
    sys.exit(1)
(folder / ".outcome").write_text(json.dumps(outcome))
(folder / ".outcome").rename(folder / "outcome.json")
with (folder.parent / "finished.txt").open("a") as file:
    file.write(f"{folder.name}\n")
