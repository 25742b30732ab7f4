from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from isomix.errors import InputError
from isomix.plotting.sheets import MARK_COLOURS, Row, Tile, contact_sheet

RED = Image.new("RGB", (40, 20), (255, 0, 0))


def colours(image: Image.Image) -> set[tuple[int, ...]]:
    return {colour for _, colour in image.getcolors(1 << 24)}


def rgb(value: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(value[1:]))


@pytest.mark.parametrize("mark", ["right", "wrong"])
def test_marks_have_their_colour(mark: str) -> None:
    found = colours(contact_sheet([(Tile(RED), [Tile(RED, "x", mark)])]))  # type: ignore[arg-type]
    other = "wrong" if mark == "right" else "right"
    assert rgb(MARK_COLOURS[mark]) in found
    assert rgb(MARK_COLOURS[other]) not in found


def test_pictures_are_pasted_unchanged_in_colour_and_shape() -> None:
    sheet = contact_sheet([(None, [Tile(RED)])], tile_size=48)
    red = [(x, y) for x in range(sheet.width) for y in range(sheet.height) if sheet.getpixel((x, y)) == (255, 0, 0)]
    width = max(x for x, _ in red) - min(x for x, _ in red) + 1
    height = max(y for _, y in red) - min(y for _, y in red) + 1
    assert (width, height) == (40, 20)


def test_rows_of_different_lengths_and_without_query() -> None:
    rows = [Row(Tile(RED, "q"), [Tile(RED, "a\n0.9")] * 3, "plain"), Row(None, [Tile(RED)], "adapted"), Row(None, [])]
    one = contact_sheet(rows[:1])
    assert contact_sheet(rows).height > one.height
    assert contact_sheet(rows).width == one.width


@pytest.mark.parametrize(
    "caption",
    [
        "naïve 日本語 \N{DROMEDARY CAMEL}",
        "bad\udcff name",
        "tab\tbell\x07",
        "a" * 500,
        "",
        "\n\n",
        "\N{ARABIC LETTER SEEN}",
    ],
)
def test_any_caption_is_drawn(caption: str) -> None:
    sheet = contact_sheet(
        [Row(Tile(RED, caption), [Tile(RED, caption, "right")], caption)], title=caption, footer=caption
    )
    assert sheet.size > (0, 0)


def test_unreadable_files_do_not_stop_a_sheet(tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    sheet = contact_sheet([(Tile(RED), [Tile(broken, "broken"), Tile(tmp_path / "gone.png"), Tile(RED)])])
    assert (255, 0, 0) in colours(sheet)


def test_paths_are_read_like_everywhere_else(tmp_path: Path) -> None:
    turned = Image.new("RGB", (40, 20), (0, 0, 255))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.png", exif=exif)
    sheet = contact_sheet([(None, [Tile(tmp_path / "turned.png")])])
    blue = [y for y in range(sheet.height) for x in range(sheet.width) if sheet.getpixel((x, y)) == (0, 0, 255)]
    assert max(blue) - min(blue) + 1 == 40


def test_nothing_to_draw_and_tiny_tiles_are_refused() -> None:
    with pytest.raises(InputError, match="got none"):
        contact_sheet([])
    with pytest.raises(InputError, match="at least 32"):
        contact_sheet([(None, [Tile(RED)])], tile_size=8)


def test_the_face_of_the_package_gives_functions_whatever_was_imported_before():
    import isomix.plotting as plotting
    from isomix.plotting import plots, sheets

    assert plotting.contact_sheet is sheets.contact_sheet
    assert plotting.plot_spectrum is plots.plot_spectrum
