"""The script that Streamlit runs for each visitor of the dashboard, at each click."""

from pathlib import Path

import streamlit as st

from bcd.app.frame import frame

frame()
st.navigation([st.Page(Path(__file__).parent / "screens" / "dashboard.py", title="Runs", url_path="runs")], position="hidden").run()
