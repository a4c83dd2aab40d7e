"""The page that shows runs, as Streamlit runs it."""

from bcd.app.runs_page import show

show()
