"""The page of images, as Streamlit runs it."""

import streamlit as st

# The first visitor would look at an empty page for as long as torch is imported; later ones see nothing of it.
with st.spinner("Loading; the first time takes some seconds."):
    from bcd.app.images.page import show

show()
