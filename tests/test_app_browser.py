"""The page in a real browser, served by its command: what a visitor does, and that nothing is fetched from elsewhere."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from playwright.sync_api import Page, expect
from servers import browser, elsewhere, free_port, keep, wait_for
from tiny_bundles import make_bundle, phantom

from bcd.app.images.drawing import png
from bcd.config import CONF

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a page that is served by the command, from an empty folder."""
    folder = tmp_path_factory.mktemp("served")
    make_bundle(folder / "bundles" / "tiny")
    port = free_port()
    (folder / "tmp").mkdir()
    environment = {**os.environ, "PYTHONPATH": str(CONF.parent), "OMP_NUM_THREADS": "1", "TMPDIR": str(folder / "tmp")}
    command = [sys.executable, str(CONF.parent / "scripts" / "serve.py"), "bundle=bundles/tiny", f"port={port}", "outputs=outputs"]
    with subprocess.Popen(command, cwd=folder, env=environment) as server:
        try:
            wait_for(f"http://localhost:{port}/_stcore/health", server)
            yield f"http://localhost:{port}"
        finally:
            server.terminate()
    # What was uploaded lies nowhere, while and after it was looked at.
    assert list((folder / "tmp").iterdir()) == []
    assert not (folder / "outputs").exists()


@pytest.fixture
def visit(address: str) -> Iterator[tuple[Page, list[str]]]:
    """A visitor's page, and the addresses of everything that it asked for."""
    with browser() as (page, asked):
        page.goto(address)
        page.get_by_text("Or simulated examples").wait_for()
        yield page, asked


def test_a_visitor_uploads_looks_corrects_and_downloads(visit: tuple[Page, list[str]], tmp_path: Path) -> None:
    page, asked = visit
    (tmp_path / "scan one.png").write_bytes(png(phantom(3)))
    (tmp_path / "words.png").write_text("These are words.")
    page.locator("input[type=file]").set_input_files([tmp_path / "scan one.png", tmp_path / "words.png"])
    expect(page.get_by_role("heading", name="scan one")).to_be_visible()
    expect(page.get_by_text("words.png: its content is no")).to_be_visible()
    expect(page.get_by_role("img", name="malignant: 0.")).to_be_visible()
    notice = page.get_by_role("note")
    expect(notice).to_be_in_viewport()

    keep(page, "image")
    page.get_by_role("heading", name="Downloads").scroll_into_view_if_needed()
    expect(notice).to_be_in_viewport()
    picture = page.get_by_alt_text("scan one: Overlay")
    before = picture.get_attribute("src")
    page.get_by_role("slider", name="Overlay opacity").focus()
    page.keyboard.press("End")
    expect(picture).not_to_have_attribute("src", before or "")

    page.get_by_text("Correct the mask").click()
    canvas = page.locator("canvas[aria-label^='The image']")
    canvas.scroll_into_view_if_needed()
    page.get_by_role("button", name="Clear", exact=True).click()
    page.get_by_role("button", name="Polygon").click()
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box is not None
    for x, y in ((0.25, 0.25), (0.5, 0.25), (0.5, 0.5), (0.25, 0.5)):
        page.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"])
        page.wait_for_timeout(600)  # two quick clicks would be a double click, which closes the polygon
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Use this mask").click()
    expect(page.get_by_text("This mask was corrected by hand")).to_be_visible()

    page.get_by_text("Overlay", exact=True).click()
    with page.expect_download() as begun:
        page.get_by_role("button", name="Mask (PNG)").click()
    mask = cv2.imdecode(np.frombuffer(Path(begun.value.path()).read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
    assert begun.value.suggested_filename == "scan one_mask.png"
    assert mask.shape == (120, 160)
    assert set(np.unique(mask)) == {0, 255}
    assert abs(int((mask == 255).sum()) - 40 * 30) < 120  # a quarter of each side, give or take the drawing's edge
    rows, columns = np.nonzero(mask)
    assert (abs(rows.mean() - 45) < 2, abs(columns.mean() - 60) < 2) == (True, True)

    with page.expect_download() as begun:
        page.get_by_role("button", name="Sheet to print (HTML)").click()
    sheet = Path(begun.value.path()).read_text(encoding="utf-8")
    assert "scan one" in sheet
    assert "corrected by hand" in sheet

    page.get_by_role("button", name="Model card and limits").click()
    expect(page.get_by_text("It is untrained: it knows nothing.").first).to_be_visible()
    assert elsewhere(asked) == set()


def test_the_second_page_says_what_to_do_where_there_are_no_runs(visit: tuple[Page, list[str]]) -> None:
    page, asked = visit
    page.get_by_role("link", name="Runs").click()
    expect(page.get_by_text("There are no finished runs below")).to_be_visible()
    expect(page.get_by_role("note")).to_be_in_viewport()
    assert elsewhere(asked) == set()
