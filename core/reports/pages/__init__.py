"""The parts of pages that all reports share."""

from core.reports.pages.page import document
from core.reports.pages.tiles import Tile, TileComparison, fact_tile

__all__ = ["Tile", "TileComparison", "document", "fact_tile"]
