"""The tour: search and few-shot classification on bundled pictures or one's own, measured on the spot."""

from isomix._extras import require

require("PIL.Image", "app", "The tour")

from isomix.demo.tour import Tour, run_tour  # noqa: E402

__all__ = ["Tour", "run_tour"]
