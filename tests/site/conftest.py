"""The built site; without it (``make docs``) these tests are skipped and say so."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import pytest

SITE = Path(__file__).resolve().parents[2] / "site-output"
SOURCE = Path(__file__).resolve().parents[2] / "docs"


class Page(HTMLParser):
    """What a page links to, what it loads, and what can be linked to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.text = path.read_text(encoding="utf-8")
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors: set[str] = set()
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.anchors.update(filter(None, (given.get("id"), given.get("name"))))
        if tag in ("a", "area"):
            self.links += filter(None, [given.get("href")])
        elif tag == "link":
            (
                self.loads if given.get("rel") in ("stylesheet", "preload", "icon", "modulepreload") else self.links
            ).extend(filter(None, [given.get("href")]))
        else:
            self.loads += filter(None, [given.get("src"), given.get("data")])
            self.loads += [part.split()[0] for part in (given.get("srcset") or "").split(",") if part.strip()]


@pytest.fixture(scope="session")
def site() -> Path:
    if not (SITE / "index.html").exists():
        pytest.skip("no site here (make docs)")
    return SITE


@pytest.fixture(scope="session")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path) for path in sorted(site.rglob("*.html")) if "_static" not in path.parts}
