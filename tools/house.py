"""Print how large the house is: modules, median and largest, in all and a package.

Run: ``python tools/house.py [--src FOLDER]``. Lines are all lines; ``__init__`` files count as modules.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path
from statistics import median

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "isomix"


def sizes(package: Path) -> dict[str, int]:
    """Module to number of lines."""
    return {
        path.relative_to(package).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
        for path in sorted(package.rglob("*.py"))
    }


def line(name: str, members: dict[str, int]) -> str:
    """One row: modules, lines, median, largest."""
    largest = max(members, key=members.__getitem__)
    return (
        f"{name:12s} {len(members):8d} {sum(members.values()):8,d} {median(members.values()):7.0f}  "
        f"{members[largest]:4d}  {largest}"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--src", type=Path, default=PACKAGE.parent, help="src of a checkout (default: this one)")
    lines = sizes(parser.parse_args().src / "isomix")
    rooms: dict[str, dict[str, int]] = defaultdict(dict)
    for name, count in lines.items():
        rooms[name.partition("/")[0] if "/" in name else "isomix"][name] = count
    print(f"{'':12s} {'modules':>8s} {'lines':>8s} {'median':>7s}  largest")
    for room, members in sorted(rooms.items()):
        print(line(room, members))
    print(line("all", lines))


if __name__ == "__main__":
    main()
