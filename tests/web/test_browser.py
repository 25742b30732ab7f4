"""The studio in Chromium: every page in light, dark and narrow, by pointer and by keyboard, without a request elsewhere.

``ISOMIX_SCREENSHOTS=folder`` keeps the pictures that are taken.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (make chromium)")
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is a package of the developers' set")

FLAGS = "--headless --no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync --no-first-run"
PAGES = {
    "search-begin": "/",
    "search": "/?q=row:20&band=24-40",
    "spectrum": "/spectrum?band=24-40",
    "map": "/map?band=24-40",
    "classes": "/classes",
    "duplicates": "/duplicates?t=0.95",
    "report": "/report",
}
LOOKS = {
    "light": {"viewport": {"width": 1360, "height": 900}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1360, "height": 900}, "color_scheme": "dark"},
    "narrow": {"viewport": {"width": 390, "height": 844}, "color_scheme": "light", "has_touch": True},
    "wide": {"viewport": {"width": 3840, "height": 2000}, "color_scheme": "dark"},
}


class Window:
    """A page with the studio open, and what it did that it should not."""

    def __init__(self, browser, address, access, **look):
        self.address = address
        self.context = browser.new_context(**look)
        self.context.set_default_timeout(30_000)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.watch(self.page)
        self.page.goto(f"{address}/open?ticket={access.new_ticket()}")
        self.page.wait_for_url(f"{address}/")

    def watch(self, page):
        page.on("console", lambda m: m.type in ("error", "warning") and self.complaints.append(f"{m.type}: {m.text}"))
        page.on("pageerror", lambda error: self.complaints.append(f"page: {error}"))
        page.on("response", lambda r: r.status >= 400 and self.complaints.append(f"{r.status} {r.url}"))
        page.on("request", lambda request: self._elsewhere(request.url))

    def _elsewhere(self, url):
        if not url.startswith((self.address + "/", "data:", "blob:")):
            self.complaints.append(f"elsewhere: {url}")

    def open(self, path):
        self.page.goto(self.address + path)
        self.settle()
        return self.page

    def settle(self):
        self.page.wait_for_selector("main h1", state="attached")
        self.page.wait_for_timeout(150)
        self.page.wait_for_selector(".working", state="detached", timeout=60_000)
        self.page.wait_for_load_state("networkidle")

    def close(self):
        self.context.close()
        assert self.complaints == []


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def spoilt(made, tmp_path_factory):
    """A copy of the table, with some labels, and a picture that was moved away."""
    folder = tmp_path_factory.mktemp("browser")
    for name in ("pictures", "icons.lance"):
        shutil.copytree(made / name, folder / name)
    (folder / "pictures" / "near.png").rename(folder / "moved.png")
    return folder


@pytest.fixture(scope="module")
def studio(spoilt, start_server):
    with start_server(spoilt / "icons.lance") as served:
        yield served


@pytest.fixture
def window(browser, studio):
    opened = Window(browser, *studio, **LOOKS["light"])
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def axe():
    folder = Path(pytest.importorskip("axe_playwright_python").__file__).parent
    return (folder / "axe.min.js").read_text(encoding="utf-8")


@pytest.mark.parametrize("look", LOOKS)
def test_every_page_draws_without_complaint_fits_and_is_accessible(browser, studio, axe, look, tmp_path):
    window = Window(browser, *studio, **LOOKS[look])
    pictures = Path(os.environ.get("ISOMIX_SCREENSHOTS", tmp_path))
    pictures.mkdir(parents=True, exist_ok=True)
    for name, path in PAGES.items():
        page = window.open(path)
        page.screenshot(path=pictures / f"{name}-{look}.png")
        over = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert over <= 0, f"{name} is {over} pixels too wide"
        page.evaluate(axe)
        found = page.evaluate("axe.run(document, {resultTypes: ['violations']}).then(r => r.violations)")
        said = [
            f"{v['id']}: {[n['target'] for n in v['nodes'][:3]]} {v['nodes'][0]['failureSummary'][:200]}" for v in found
        ]
        assert said == [], name
    window.close()


def test_dragging_a_handle_ranks_anew_and_the_address_remembers(window):
    page = window.open("/spectrum")
    before = page.locator(".pin").first.inner_html()
    box = page.locator(".curve").bounding_box()
    at = page.locator("[data-handle=bottom] .grip").bounding_box()
    y = box["y"] + 80
    page.mouse.move(at["x"] + 5, y)
    page.mouse.down()
    for step in range(1, 12):
        page.mouse.move(at["x"] - step * 22, y)
    page.wait_for_timeout(100)
    page.mouse.up()
    window.settle()
    found = re.search(r"band=(\d+)-(\d+)", page.url)
    assert int(found[2]) > 100
    assert page.locator(".pin").first.inner_html() != before
    assert page.locator("[data-handle=bottom]").get_attribute("aria-valuenow") == found[2]
    page.reload()
    window.settle()
    assert page.locator("input[data-cut=bottom]").input_value() == found[2]


def test_the_band_by_keyboard_by_number_and_by_click(window):
    page = window.open("/spectrum")
    page.locator("[data-handle=top]").focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("PageUp")
    assert "band=19-72" in page.url
    page.locator("input[data-cut=top]").fill("40")
    page.keyboard.press("Enter")
    assert "band=40-72" in page.url
    page.get_by_role("button", name="Whole spectrum").click()
    assert "band=0-0" in page.url
    page.locator(".heat button").nth(5).click()
    assert "band=0-0" not in page.url
    page.locator(".curve").click(position={"x": 120, "y": 60})
    window.settle()


def test_search_by_keyboard_alone_and_back(window):
    page = window.open("/")
    page.wait_for_selector("#words:enabled")
    page.keyboard.press("/")
    page.wait_for_timeout(200)
    assert page.evaluate("document.activeElement.id") == "words"
    page.keyboard.type("star")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=Words stay in the plain space")
    assert "q=text:star" in page.url
    page.locator(".card .face").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("q=row:"))
    window.settle()
    assert page.locator(".col.iso .card").count() == 24
    assert page.evaluate("document.activeElement.id") == "page"
    page.locator(".col.iso .pick").first.focus()
    page.keyboard.press("Space")
    assert page.locator(".selection b").inner_text() == "1 selected"
    page.keyboard.press("Escape")
    assert page.locator(".selection").count() == 0
    page.go_back()
    page.wait_for_selector("text=Words stay in the plain space")


def test_the_band_above_the_results_moves_them_in_sight(window):
    page = window.open("/?q=row:20&band=24-40")
    page.locator(".strip summary").focus()
    page.keyboard.press("Enter")
    page.locator("[data-handle=bottom]").focus()
    page.keyboard.press("PageUp")
    page.locator(".col.iso h2", has_text="24 / 56").wait_for()
    assert "band=24-56" in page.url
    for part in (".strip .curve", ".col.iso .card >> nth=0"):
        box = page.locator(part).bounding_box()
        assert 0 <= box["y"] < box["y"] + box["height"] < 900, part


def test_a_space_is_chosen_beside_its_name_and_a_link_keeps_it(window):
    page = window.open("/?q=row:20")
    page.locator(".picker option[value='text-pca']:not([disabled])").wait_for(state="attached", timeout=60_000)
    page.get_by_label("Choose the adapted space").select_option("text-pca")
    page.wait_for_url(re.compile("space=text-pca"))
    window.settle()
    page.reload()
    window.settle()
    assert page.get_by_label("Choose the adapted space").input_value() == "text-pca"
    page.get_by_role("link", name="Map").click()
    window.settle()
    assert page.get_by_label("Choose the adapted space").input_value() == "text-pca"


def test_every_part_is_reached_by_tab(window):
    for path in PAGES.values():
        page = window.open(path)
        wanted = page.locator(
            "main :is(a, button, input, select, [tabindex='0']):visible:not(:disabled):not([tabindex='-1'])"
        ).count()
        seen = set()
        for _ in range(min(wanted, 40) + 15):
            page.keyboard.press("Tab")
            seen.add(
                page.evaluate(
                    "(() => { const e = document.activeElement; return e.closest('main') ? [...document.querySelectorAll('main *')].indexOf(e) : -1 })()"
                )
            )
        assert len(seen - {-1}) >= min(wanted, 40) * 0.9, path


def test_a_picture_is_tied_on_both_sides_and_votes_are_counted(window):
    page = window.open("/?q=row:30&band=24-40")
    row = page.locator(".col.iso .card").first.get_attribute("data-row")
    page.locator(f".col.iso .card[data-row='{row}']").hover()
    assert page.locator(f".card.tied[data-row='{row}']").count() == 2
    page.keyboard.press("2")
    page.wait_for_selector("text=1 for the adapted side")
    page.get_by_role("button", name="1 · plain").click()
    page.wait_for_selector("text=0 for the adapted side, 1 for plain")


def test_a_picture_from_outside_by_the_button(window, spoilt):
    page = window.open("/")
    path = sorted((spoilt / "pictures").rglob("*.png"))[12]
    page.set_input_files("#file", path)
    page.wait_for_url(re.compile("q=upload:"))
    window.settle()
    assert path.name in page.locator(".col.plain .card .name").first.get_attribute("title")
    page.set_input_files("#file", {"name": "no.png", "mimeType": "image/png", "buffer": b"no picture"})
    page.wait_for_selector(".toast:has-text('no picture')")
    assert [c for c in window.complaints if "422" not in c] == []
    window.complaints.clear()  # the browser itself notes the 422


def test_hostile_names_are_text(window):
    page = window.open("/?k=96&q=row:10")
    page.wait_for_timeout(300)
    names = page.locator(".card .name").all_inner_texts()
    assert "<b>odd</b>" in names
    assert page.locator(".card .name b").count() == 0
    titles = page.locator(".card .name").evaluate_all("all => all.map(e => e.title)")
    assert "<img src=x onerror=alert(1)>.png" in titles


def test_a_moved_picture_is_a_placeholder_with_its_path(window, studio, spoilt):
    page = window.open("/?k=96&q=row:10")
    gone = page.locator(".gone", has_text="near.png").first
    gone.scroll_into_view_if_needed()
    assert "file not found" in gone.inner_text()


def test_classes_by_keyboard_drag_and_click_in_two_windows(window, browser, studio):
    page = window.open("/classes")
    for name in ("first", "second <i>"):
        page.get_by_label("Name of a new class").fill(name)
        page.keyboard.press("Enter")
        page.wait_for_selector(f"section[aria-label='Class {name}']")
    page.locator("main h1").click()
    for key in "121212":
        before = page.locator(".now img").get_attribute("src")
        page.keyboard.press(key)
        page.locator(f".now img:not([src='{before}'])").wait_for()
    page.wait_for_selector(".accuracy .big")
    assert page.locator("section.class").first.locator(".mini button").count() == 3
    card = page.locator(".label-next .card").first
    card.drag_to(page.locator("section.class").nth(1))
    page.locator("section.class").nth(1).locator(".mini button").nth(3).wait_for()
    page.locator("section.class").nth(1).locator(".mini button").first.click()
    page.locator("section.class").nth(1).get_by_text("3 pictures").wait_for()
    other = Window(browser, *studio, **LOOKS["light"])
    other.open("/classes")
    assert other.page.locator("section.class").count() == 2
    other.page.get_by_label("Name of a new class").fill("third")
    other.page.keyboard.press("Enter")
    other.page.wait_for_selector("section[aria-label='Class third']")
    page.evaluate("dispatchEvent(new Event('focus'))")
    page.wait_for_selector("section[aria-label='Class third']")
    other.close()
    assert page.locator("section.class i").count() == 0


def test_the_selection_goes_along_and_is_exported(window):
    page = window.open("/map?band=24-40")
    page.get_by_role("button", name="Select what is in sight").click()
    page.wait_for_selector(".selection")
    assert page.locator(".selection b").inner_text() == "67 selected"
    with page.expect_download() as download:
        page.locator(".selection a", has_text="CSV").click()
    assert len(Path(download.value.path()).read_text().splitlines()) == 68
    page.get_by_role("link", name="Classes").click()
    window.settle()
    assert page.locator(".selection b").inner_text() == "67 selected"
    page.locator(".selection").get_by_role("button", name="Clear").click()
    page.wait_for_selector(".selection", state="detached")
    assert "sel=" not in page.url


def test_the_map_zooms_to_pictures_and_a_lasso_selects(window):
    with window.page.expect_response(lambda response: "/api/sheet" in response.url):
        page = window.open("/map?band=24-40")
    plane = page.locator(".plane canvas")
    box = plane.bounding_box()
    page.get_by_role("button", name="Rectangle").click()
    page.mouse.move(box["x"] + 10, box["y"] + 10)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 10, box["y"] + box["height"] - 10, steps=4)
    page.mouse.up()
    page.wait_for_selector(".selection")
    plane.focus()
    page.keyboard.press("+")
    page.get_by_label("From the plain to the adapted layout").fill("1")
    page.get_by_role("button", name="Zoom to selection").click()
    page.locator(".names button").first.click()
    assert page.locator("main .card").count() > 0


def test_duplicates_by_slider_and_verdict(window):
    page = window.open("/duplicates?t=0.95")
    page.get_by_label("Smallest cosine of duplicates").focus()
    page.keyboard.press("ArrowLeft")
    page.wait_for_url(re.compile("t=0.949"))
    window.settle()
    page.locator(".pair").first.get_by_role("button", name="later").click()
    page.wait_for_selector(".pair button[aria-pressed=true]")
    assert page.get_by_role("heading", name="Identical files").count() == 1


def test_the_report_is_one_file_that_draws_alone(window, browser, tmp_path):
    page = window.open("/report")
    with page.expect_download() as download:
        page.get_by_role("button", name="Save the report").click()
    path = tmp_path / "report.html"
    download.value.save_as(path)
    context = browser.new_context(java_script_enabled=False, offline=True)
    alone = context.new_page()
    alone.goto(path.as_uri())
    assert alone.locator("img").count() > 40
    assert alone.locator("svg").count() == 1
    context.close()


def test_without_script_a_sentence_says_so(browser, studio):
    address, access = studio
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{address}/open?ticket={access.new_ticket()}")
    page.wait_for_url(f"{address}/")
    assert "JavaScript" in page.locator("noscript").inner_text()
    context.close()


def test_a_server_that_is_gone_is_said(browser, spoilt, start_server):
    with start_server(spoilt / "icons.lance") as served:
        window = Window(browser, *served, **LOOKS["light"])
        page = window.open("/")
    page.locator(".card .face").first.click()
    page.wait_for_selector("text=Is `isomix serve` still running?")
    window.context.close()


def test_a_drag_over_100000_rows_keeps_up(browser, tmp_path, start_server):
    from isomix.projectors import Projectors
    from isomix.store import EmbeddingTable
    from isomix.store.schema import TableMetadata

    width, rows = 64, 100_000
    rng = np.random.default_rng(0)
    projectors = Projectors(
        rng.normal(size=(width, 80)).astype(np.float32), rng.normal(size=(width, 80)).astype(np.float32)
    )
    projectors.save(tmp_path / "pair.safetensors")
    path = str(tmp_path / "pair.safetensors")
    made = TableMetadata(path, "none", projectors.fingerprint, {}, width, root=".")
    table = EmbeddingTable.create(tmp_path / "many.lance", made)
    vectors = rng.standard_normal((rows, width), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    names = [f"{i:06d}.jpg" for i in range(rows)]
    table.append({"id": [f"{i:032x}" for i in range(rows)], "path": names, "embedding": vectors})
    with start_server(tmp_path / "many.lance") as served:
        window = Window(browser, *served, **LOOKS["light"])
        page = window.open("/spectrum?band=0-0")
        box = page.locator(".curve").bounding_box()
        asked: list[str] = []
        page.on("response", lambda response: "/api/rerank" in response.url and asked.append(response.url))
        page.mouse.move(box["x"] + 3, box["y"] + 60)
        page.mouse.down()
        for step in range(30):
            page.mouse.move(box["x"] + 3 + step * 9, box["y"] + 60)
            page.wait_for_timeout(16)
        page.mouse.up()
        window.settle()
        assert len(asked) >= 4, "several rankings while the handle moved"
        assert page.locator(".pin").count() == 9
        assert not re.search("band=0-0", page.url)
        window.context.close()
