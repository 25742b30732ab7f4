"""``isomix`` and ``python -m isomix``: the command line, or what it takes to have one."""

import sys

from isomix._extras import require
from isomix.errors import MissingExtraError

__all__ = ["main"]


def main() -> None:
    """Run the command line; the entry point of the ``isomix`` script."""
    try:
        for module in ("typer", "rich"):
            require(module, "app", "The command line")
    except MissingExtraError as error:
        sys.exit(f"error: {error}")
    from isomix.cli.app import main as run

    run()


if __name__ == "__main__":
    main()
