"""Render the pictures of ``isomix demo`` from openly licensed icon and emoji sets.

    python tools/make_demo_pictures.py [--sheet sheet.png]

Needs ``npm``, and ``pip install resvg-py==0.5.0 pillow==13.0.0`` in an environment of its own. The versions below are
pinned, so the same pictures come out, byte for byte. Everything under ``src/isomix/demo/pictures`` is replaced.

How the pictures were chosen, before anything was measured on them:

* *icons*: nouns for things that one can draw without words, listed in ``ICONS`` with the names that the sets give them;
  a concept stays when at least ``MIN_STYLES`` of the eight sets have it. None of these sets was in the training data of
  the embedded model. ``ELSEWHERE`` drops drawings of another thing under the same name (a coffee bean for a cup).
* *emoji*: thirty of the nouns that all five colour sets share by name. The embedded model was trained on these
  very sets.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import resvg_py
from PIL import Image

PICTURES = Path(__file__).resolve().parents[1] / "src" / "isomix" / "demo" / "pictures"
SIZE = 96
MIN_STYLES = 6


@dataclass(frozen=True)
class Style:
    """One set: its package ``@iconify-json/<prefix>``, how it names this style, and what its licence asks us to say."""

    prefix: str
    version: str
    title: str
    copyright: str
    licence: str
    project: str
    suffix: str = ""


MIT, APACHE, CC_BY = "MIT", "Apache-2.0", "CC-BY-4.0"
ICON_STYLES = (
    Style(
        "bxs",
        "1.2.3",
        "Boxicons, solid",
        "Copyright (c) 2015-2021 Aniket Suvarna",
        MIT,
        "https://github.com/box-icons/boxicons",
    ),
    Style(
        "grommet-icons",
        "1.2.4",
        "Grommet Icons",
        "Hewlett Packard Enterprise Development LP and the Grommet authors",
        APACHE,
        "https://github.com/grommet/grommet-icons",
    ),
    Style(
        "ion",
        "1.2.7",
        "Ionicons, filled",
        "Copyright (c) 2015-present Ionic (http://ionic.io/)",
        MIT,
        "https://github.com/ionic-team/ionicons",
    ),
    Style(
        "mynaui",
        "1.2.19",
        "Myna UI Icons",
        "Copyright (c) Praveen Juge",
        MIT,
        "https://github.com/praveenjuge/mynaui-icons",
    ),
    Style(
        "pepicons-print",
        "1.2.2",
        "Pepicons Print",
        "Pepicons by © Copyright CyCraft, 2019 - today",
        CC_BY,
        "https://github.com/CyCraft/pepicons",
    ),
    Style(
        "pixelarticons",
        "1.2.9",
        "Pixelarticons",
        "Copyright (c) 2019 Gerrit Halfmann",
        MIT,
        "https://github.com/halfmage/pixelarticons",
    ),
    Style(
        "teenyicons",
        "1.2.2",
        "Teenyicons, outline",
        "Copyright (c) 2020, Anja van Staden",
        MIT,
        "https://github.com/teenyicons/teenyicons",
        "-outline",
    ),
    Style("vaadin", "1.2.1", "Vaadin Icons", "Vaadin Ltd.", APACHE, "https://github.com/vaadin/web-components"),
)
EMOJI_STYLES = (
    Style(
        "emojione",
        "1.2.3",
        "Emoji One 2 (EmojiTwo)",
        "Emoji One and the EmojiTwo authors",
        CC_BY,
        "https://github.com/EmojiTwo/emojitwo",
    ),
    Style(
        "fluent-emoji-flat",
        "1.2.6",
        "Fluent Emoji, flat",
        "Copyright (c) Microsoft Corporation",
        MIT,
        "https://github.com/microsoft/fluentui-emoji",
    ),
    Style("fxemoji", "1.2.2", "Firefox OS Emoji", "Mozilla", APACHE, "https://github.com/mozilla/fxemoji"),
    Style("noto", "1.2.9", "Noto Emoji", "Google Inc", APACHE, "https://github.com/googlefonts/noto-emoji"),
    Style(
        "twemoji",
        "1.2.5",
        "Twemoji",
        "Twitter, Inc and other contributors",
        CC_BY,
        "https://github.com/jdecked/twemoji",
    ),
)

ICONS = {
    "airplane": "airplane plane aeroplane", "anchor": "anchor", "bell": "bell notifications notification",
    "bicycle": "bicycle bike", "book": "book", "bookmark": "bookmark", "briefcase": "briefcase", "bug": "bug",
    "bus": "bus", "calculator": "calculator", "calendar": "calendar", "camera": "camera", "car": "car",
    "clipboard": "clipboard", "clock": "clock time", "cloud": "cloud", "coffee cup": "coffee cafe cup",
    "compass": "compass", "credit card": "credit-card card", "crown": "crown",
    "droplet": "droplet water drop raindrop", "envelope": "envelope mail email", "eye": "eye view",
    "fire": "fire flame", "flag": "flag", "flask": "flask beaker", "folder": "folder",
    "game controller": "game-controller gamepad controller", "gear": "cog gear settings", "gift": "gift",
    "globe": "globe world", "hammer": "hammer", "headphones": "headphones headphone", "heart": "heart",
    "hourglass": "hourglass", "house": "home house", "key": "key", "keyboard": "keyboard", "laptop": "laptop",
    "leaf": "leaf", "light bulb": "light-bulb lightbulb bulb lamp", "lightning": "bolt flash lightning zap",
    "lock": "lock lock-closed lock-alt", "magnet": "magnet", "magnifying glass": "search", "map": "map",
    "map marker": "map-marker location marker map-pin location-pin", "microphone": "microphone mic", "moon": "moon",
    "musical note": "music-note musical-note music", "paintbrush": "paintbrush paint-brush brush",
    "paperclip": "paperclip attachment attach", "pencil": "pencil edit", "phone": "phone telephone call",
    "printer": "printer print", "rocket": "rocket", "scissors": "scissors cut", "shield": "shield",
    "shopping cart": "cart shopping-cart", "skull": "skull", "snowflake": "snowflake snow",
    "speaker": "volume-high volume-full volume-up volume", "star": "star", "sun": "sun", "tag": "tag label",
    "television": "tv television", "ticket": "ticket", "train": "train", "trash can": "trash bin",
    "tree": "tree pine-tree", "trophy": "trophy", "truck": "truck delivery", "umbrella": "umbrella",
    "wallet": "wallet", "wrench": "wrench",
}  # fmt: skip
ELSEWHERE = {
    ("bxs", "map"), ("bxs", "map-pin"),  # a marker; a joystick
    ("grommet-icons", "coffee"), ("grommet-icons", "map"),  # a coffee bean; a marker
    ("pepicons-print", "camera"), ("pepicons-print", "map"),  # a film camera; a marker
    ("teenyicons", "attachment-outline"), ("teenyicons", "location-outline"),  # a page; cross hairs
}  # fmt: skip
EMOJI = """
    alien balloon banana cactus cherries chicken cookie doughnut elephant frog ghost grapes guitar hamburger helicopter
    honeybee koala lemon mushroom octopus penguin pineapple rainbow sailboat snail strawberry sunflower tractor turtle
    violin
"""


def fetch(styles: tuple[Style, ...], folder: Path) -> dict[str, dict[str, Any]]:
    """Install the pinned packages under ``folder`` and read their icons."""
    packages = [f"@iconify-json/{style.prefix}@{style.version}" for style in styles]
    command = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(folder), *packages]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return {
        s.prefix: json.loads((folder / "node_modules/@iconify-json" / s.prefix / "icons.json").read_text())
        for s in styles
    }


def find(icons: dict[str, Any], style: Style, names: str) -> str | None:
    """The first of ``names`` that the set has in this style."""
    known = {**icons["icons"], **icons.get("aliases", {})}
    candidates = [name + style.suffix for name in names.split()]
    return next((name for name in candidates if name in known and (style.prefix, name) not in ELSEWHERE), None)


def render(icons: dict[str, Any], name: str) -> Image.Image:
    """One icon on white, RGB."""
    while name in icons.get("aliases", {}):
        name = icons["aliases"][name]["parent"]
    icon = icons["icons"][name]
    left, top = icon.get("left", 0), icon.get("top", 0)
    width, height = icon.get("width", icons.get("width", 16)), icon.get("height", icons.get("height", 16))
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" color="black" '
        f'viewBox="{left} {top} {width} {height}" width="{width}" height="{height}">{icon["body"]}</svg>'
    )
    scale = SIZE / max(width, height)
    drawn = resvg_py.svg_to_bytes(
        svg_string=svg, width=round(width * scale), height=round(height * scale), dpi=96, background="#ffffff"
    )
    picture = Image.open(io.BytesIO(bytes(drawn))).convert("RGB")
    square = Image.new("RGB", (SIZE, SIZE), "white")
    square.paste(picture, ((SIZE - picture.width) // 2, (SIZE - picture.height) // 2))
    return square


def shrink(picture: Image.Image, colours: int) -> Image.Image:
    """The picture with a palette, which makes it four times smaller."""
    return picture.quantize(colours, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)


def attribution(groups: dict[str, tuple[Style, ...]]) -> str:
    """The text of ATTRIBUTION.md."""
    lines = [
        "# Where these pictures come from",
        "",
        f"Rendered from the sets below at {SIZE} x {SIZE} pixels on white and reduced to a small palette; otherwise "
        "unchanged. The file name is the set's.",
        "The sets are not ours, and their authors have nothing to do with this project. "
        "`tools/make_demo_pictures.py` makes the pictures again.",
        "",
    ]
    notes = {
        "icons": "Sets that the embedded model was not trained on. It knows most of the *things* from other sets.",
        "emoji": "Sets that the embedded model *was* trained on, these pictures included, but for the concepts held out in "
        "`training/unseen_emoji.txt`.",
    }
    for group, styles in groups.items():
        lines += [
            f"## {group}",
            "",
            notes[group],
            "",
            "| file | set | version | licence | by |",
            "|---|---|---|---|---|",
        ]
        lines += [
            f"| `{s.prefix}.png` | [{s.title}]({s.project}) | {s.version} | {s.licence} | {s.copyright} |"
            for s in styles
        ]
        lines.append("")
    return "\n".join([*lines, LICENCES])


LICENCES = """## Licences

Versions are those of the sets' packages in the Iconify collection.

**CC-BY-4.0**: https://creativecommons.org/licenses/by/4.0/ (the changes are named above).

**Apache-2.0**: the text is in the file LICENSE of this project, and at https://www.apache.org/licenses/LICENSE-2.0.

**MIT**, with the copyright notice in the table in place of the first line:

> Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
> documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
> rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to
> permit persons to whom the Software is furnished to do so, subject to the following conditions:
>
> The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
> Software.
>
> THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
> WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS
> OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
> OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""


def overview(groups: dict[str, tuple[Style, ...]]) -> Image.Image:
    """Every picture on one sheet, a row a concept: to check by eye that each shows what its folder says."""
    cell, rows = 64, [(group, folder) for group in groups for folder in sorted((PICTURES / group).iterdir())]
    per_column = (len(rows) + 2) // 3
    width = cell * max(len(styles) for styles in groups.values()) + 40
    sheet = Image.new("RGB", (3 * width, per_column * cell), "white")
    for number, (group, folder) in enumerate(rows):
        for column, style in enumerate(groups[group]):
            path = folder / f"{style.prefix}.png"
            if path.exists():
                at = (number // per_column * width + column * cell, number % per_column * cell)
                sheet.paste(Image.open(path).convert("RGB").resize((cell - 4, cell - 4)), at)
    return sheet


def main() -> None:
    """Make all pictures, their attribution, and on request a sheet of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sheet", type=Path, help="also draw all pictures on this one, to look at")
    arguments = parser.parse_args()
    groups = {"icons": ICON_STYLES, "emoji": EMOJI_STYLES}
    shutil.rmtree(PICTURES, ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        sets = fetch(ICON_STYLES + EMOJI_STYLES, Path(folder))
    concepts = {
        "icons": (ICONS, MIN_STYLES, 16),
        "emoji": ({name: name for name in EMOJI.split()}, len(EMOJI_STYLES), 64),
    }
    for group, (names, needed, colours) in concepts.items():
        for concept, candidates in names.items():
            found = {s.prefix: find(sets[s.prefix], s, candidates) for s in groups[group]}
            available = {prefix: name for prefix, name in found.items() if name}
            if len(available) < needed:
                sys.stdout.write(f"{group}: {concept}: only in {len(available)} sets, left out\n")
                continue
            folder_of_concept = PICTURES / group / concept.replace(" ", "_")
            folder_of_concept.mkdir(parents=True)
            for prefix, name in available.items():
                picture = shrink(render(sets[prefix], name), colours)
                picture.save(folder_of_concept / f"{prefix}.png", optimize=True)
    (PICTURES / "ATTRIBUTION.md").write_text(attribution(groups), encoding="utf-8")
    files = list(PICTURES.rglob("*.png"))
    size = sum(file.stat().st_size for file in files)
    sys.stdout.write(f"{len(files)} pictures of {len(list(PICTURES.glob('*/*')))} concepts, {size / 1e3:.0f} kB\n")
    if arguments.sheet:
        overview(groups).save(arguments.sheet)


if __name__ == "__main__":
    main()
