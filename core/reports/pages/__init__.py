"""Pages: the parts that reports share, written around their charts."""

from core.reports.pages.page import document
from core.reports.pages.tiles import Tile, counted, rated, told, waited

__all__ = ["Tile", "counted", "document", "rated", "told", "waited"]
