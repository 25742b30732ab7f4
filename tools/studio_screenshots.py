"""Draw the studio's pages for the docs: ``python tools/studio_screenshots.py docs/figures``; needs Chromium."""

from __future__ import annotations

import shutil
import sys
import tempfile
import threading
import time
from io import BytesIO
from pathlib import Path
from typing import Any

import isomix
from isomix.store import embed
from isomix.web import Studio
from isomix.web.app import create_app
from isomix.web.security import Access

FLAGS = "--headless --no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync --no-first-run"
SHOTS = {
    "search": ("/?q=row:43&band=32-40", "light", 1280, 900),
    "search-dark": ("/?q=row:43&band=32-40", "dark", 1280, 800),
    "spectrum": ("/spectrum?band=32-40", "light", 1280, 860),
    "spectrum-narrow": ("/spectrum?band=32-40", "light", 390, 844),
    "map": ("/map?band=32-40", "light", 1280, 800),
    "classes": ("/classes", "dark", 1280, 860),
    "duplicates": ("/duplicates?t=0.95", "light", 1280, 800),
    "report": ("/report?band=32-40", "light", 1280, 560),
}


def label(studio: Studio) -> None:
    """Five classes of five pictures, as a user would have made them."""
    for name in ("bell", "book", "bug", "camera", "car"):
        rows = [row for row, own in enumerate(studio.rows.labels) if own == name][:5]
        studio.side_file.label([studio.rows.ids[row] for row in rows], name)


def draw(address: str, access: Access, folder: Path) -> None:
    """Every page of ``SHOTS`` as a small WebP."""
    from PIL import Image
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS.split())
        for name, (path, scheme, width, height) in SHOTS.items():
            look: Any = {"viewport": {"width": width, "height": height}, "color_scheme": scheme}
            context = browser.new_context(**look)
            page = context.new_page()
            page.goto(f"{address}/open?ticket={access.new_ticket()}")
            page.wait_for_url(f"{address}/")
            page.goto(address + path)
            page.wait_for_selector("main h1", state="attached")
            page.wait_for_timeout(800)
            page.wait_for_selector(".working", state="detached", timeout=120_000)
            if name == "search":
                page.locator(".strip summary").click()
            page.wait_for_load_state("networkidle")
            page.wait_for_timeout(800)
            image = Image.open(BytesIO(page.screenshot())).convert("RGB")
            image.save(folder / f"studio-{name}.webp", quality=86, method=6)
            context.close()
        browser.close()


def main() -> None:
    """Embed the bundled icons into a folder that goes again, serve them, and draw."""
    import uvicorn

    folder = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as temporary:
        table = Path(temporary) / "icons.lance"
        pictures = Path(isomix.__file__).parent / "demo" / "pictures" / "icons"
        embed(pictures, table, isomix.load_encoder("embedded"), labels="folders")
        studio = Studio(table)
        label(studio)
        access = Access(7318, frozenset({"127.0.0.1:7318"}))
        config = uvicorn.Config(create_app(studio, access), port=7318, log_level="warning", access_log=False)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.05)
        draw("http://127.0.0.1:7318", access, folder)
        server.should_exit = True
        thread.join(10)


if __name__ == "__main__":
    main()
