"""The typefaces of reports: for pages and charts alike, names in every script."""

FONTS = (
    "Noto Sans, Noto Sans Arabic, Noto Sans Hebrew, Noto Sans Devanagari, Noto Sans Thai, Noto Sans CJK SC, "
    "Noto Sans CJK JP, Noto Sans CJK KR, Noto Color Emoji, sans-serif"
)
"""A CSS ``font-family``. Static TrueType first: it is embedded as such, where CFF outlines (Debian's Inter, Noto's CJK)
and bitmaps (emoji) become Type 3. Weights are 400 and 700. Without quotes: plotly writes it into ``style``."""

PACKAGES = ("fonts-noto-core", "fonts-noto-cjk", "fonts-noto-color-emoji")
"""Where Debian and Ubuntu have them."""

FAMILIES = ("Noto Sans", "Noto Sans CJK SC", "Noto Color Emoji")
"""One family of each package, to see whether it is installed."""
