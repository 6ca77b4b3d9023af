"""Pages: the parts that reports share, written around their charts."""

from core.reports.pages.page import document
from core.reports.pages.tiles import Compared, Tile, told

__all__ = ["Compared", "Tile", "document", "told"]
