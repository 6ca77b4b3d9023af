"""Pages: the parts that reports share, written around their charts."""

from core.reports.pages.page import document
from core.reports.pages.tiles import Tile, TileComparison, fact_tile

__all__ = ["Tile", "TileComparison", "document", "fact_tile"]
