"""The page that reads images, as Streamlit runs it."""

from bcd.app.images_page import show

show()
