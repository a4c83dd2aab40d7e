"""The script that Streamlit runs for each visitor of the dashboard, at each click."""

import os
from pathlib import Path

from bcd.app.dashboard import OUTPUTS, TENSORBOARD
from bcd.app.frame import frame
from bcd.app.runs.page import show

frame()
show(Path(os.environ[OUTPUTS]), os.environ[TENSORBOARD])
