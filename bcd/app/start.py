"""The script that Streamlit runs for each visitor, at each click."""

import os
from pathlib import Path

import streamlit as st
from starlette.formparsers import MultiPartParser

from bcd.app.frame import frame
from bcd.app.settings import Settings

# Starlette would write uploads of more than 1 MB to a temporary file for as long as they arrive: they stay in memory.
MultiPartParser.spool_max_size = Settings.from_environment(os.environ).max_upload_mb * 1024 * 1024 + 1

_SCREENS = Path(__file__).parent / "screens"

frame()
images = st.Page(_SCREENS / "images.py", title="Images", url_path="images", default=True)
runs = st.Page(_SCREENS / "runs.py", title="Runs", url_path="runs")
st.navigation([images, runs], position="top").run()
