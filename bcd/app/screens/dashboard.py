"""The dashboard's page, as Streamlit runs it."""

import os
from pathlib import Path

from bcd.app.dashboard import OUTPUTS, TENSORBOARD
from bcd.app.runs.page import show

show(Path(os.environ[OUTPUTS]), os.environ[TENSORBOARD])
