"""The page that shows runs, as Streamlit runs it."""

from bcd.app.runs.page import show
from bcd.app.settings import Settings

show(Settings.from_environment().outputs)
