"""The fonts of reports, for pages and charts, with glyphs for names in every script."""

FONTS = (
    "Noto Sans, Noto Sans Arabic, Noto Sans Hebrew, Noto Sans Devanagari, Noto Sans Thai, Noto Sans CJK SC, "
    "Noto Sans CJK JP, Noto Sans CJK KR, Noto Color Emoji, sans-serif"
)
"""A CSS ``font-family``. Static TrueType first: it is embedded as TrueType, while CFF outlines (Debian's Inter, Noto's
CJK) and bitmaps (emoji) become Type 3. Weights are 400 and 700. Without quotes: plotly writes it into ``style``."""

PACKAGES = ("fonts-noto-core", "fonts-noto-cjk", "fonts-noto-color-emoji")
"""The packages of Debian and Ubuntu that contain them."""

FAMILIES = ("Noto Sans", "Noto Sans CJK SC", "Noto Color Emoji")
"""One family of each package, to check whether it is installed."""
