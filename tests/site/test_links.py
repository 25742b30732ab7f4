"""Links of the built site lead somewhere, and no page loads anything from elsewhere."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

FOREIGN = ("http:", "https:", "//", "ws:", "wss:")


def test_internal_links_lead_somewhere(pages, site):
    broken, checked = [], 0
    for page in pages.values():
        for link in [*page.links, *page.loads]:
            if link.startswith(("mailto:", "data:", *FOREIGN)):
                continue
            checked += 1
            parts = urlsplit(link)
            target = (page.path.parent / unquote(parts.path)).resolve() if parts.path else page.path
            if not target.is_file() or not target.is_relative_to(site):
                broken.append(f"{page.path.relative_to(site)}: {link}: no such file")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
                broken.append(f"{page.path.relative_to(site)}: {link}: no such place")
    assert checked > 1000
    assert not broken, "\n".join(broken[:40])


def test_no_page_loads_from_elsewhere(pages):
    foreign = [
        f"{page.path.name}: {load}" for page in pages.values() for load in page.loads if load.startswith(FOREIGN)
    ]
    assert not foreign


def test_no_style_sheet_loads_from_elsewhere(site):
    sheets = sorted(site.rglob("*.css"))
    assert sheets
    loaded = re.compile(r"""(?:url\(\s*["']?|@import\s+["'])((?:https?:)?//[^"')]+)""")
    foreign = [f"{sheet.name}: {url}" for sheet in sheets for url in loaded.findall(sheet.read_text(encoding="utf-8"))]
    assert not foreign


def test_every_page_is_reached_from_the_first(pages, site):
    reached, waiting = set(), [site / "index.html"]
    while waiting:
        path = waiting.pop()
        if path in reached or path not in pages:
            continue
        reached.add(path)
        waiting += [(path.parent / unquote(urlsplit(link).path)).resolve() for link in pages[path].links if link]
    missing = {str(path.relative_to(site)) for path in set(pages) - reached}
    assert missing <= {"search.html", "genindex.html", "py-modindex.html"}
