"""The studio: one table in a browser, two spaces side by side."""

from isomix.web.app import create_app
from isomix.web.serve import serve
from isomix.web.studio import Studio

__all__ = ["Studio", "create_app", "serve"]
