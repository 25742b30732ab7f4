"""The site in Chromium, in light, dark and narrow: no request elsewhere, no complaint, nothing wider than the window.

``ISOMIX_SCREENSHOTS=folder`` keeps the pictures that are taken.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (make chromium)")
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is a package of the developers' set")

FLAGS = "--headless --no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync --no-first-run"
PAGES = (
    "index",
    "tutorials/t1_search_a_folder",
    "explanation/the-spectrum-and-the-band",
    "explanation/shrinkage-and-mixing",
    "reference/command-line",
    "reference/generated/isomix.spaces.IsoCLIP",
    "gallery",
)
LOOKS = {
    "light": {"viewport": {"width": 1360, "height": 900}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1360, "height": 900}, "color_scheme": "dark"},
    "narrow": {"viewport": {"width": 390, "height": 844}, "color_scheme": "light"},
}


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def address(site):
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright, contextlib.ExitStack() as stack:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        stack.callback(launched.close)
        yield launched


@pytest.mark.parametrize("look", LOOKS)
def test_pages_load_nothing_from_elsewhere_and_fit_the_window(browser, address, look):
    complaints: list[str] = []
    context = browser.new_context(**LOOKS[look])
    page = context.new_page()
    page.on(
        "request", lambda r: r.url.startswith((address, "data:", "blob:")) or complaints.append(f"elsewhere: {r.url}")
    )
    page.on("response", lambda r: r.status >= 400 and complaints.append(f"{r.status} {r.url}"))
    page.on("console", lambda m: m.type == "error" and complaints.append(m.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    for name in PAGES:
        page.goto(f"{address}/{name}.html", wait_until="networkidle")
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        if wide > 0:
            complaints.append(f"{name}: {wide} pixels wider than the window")
        if folder := os.environ.get("ISOMIX_SCREENSHOTS"):
            page.screenshot(path=Path(folder) / f"site-{name.replace('/', '-')}-{look}.png")
    context.close()
    assert not complaints


def test_search_finds_a_page_without_a_server_of_its_own(browser, address):
    page = browser.new_page()
    page.goto(f"{address}/search.html?q=shrinkage", wait_until="networkidle")
    page.wait_for_selector("#search-results li a")
    assert "shrinkage" in page.inner_text("#search-results").lower()
    page.close()
