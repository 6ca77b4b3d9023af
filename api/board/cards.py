"""What the pages that mails link to share: styles, headers against indexing, a Content-Security-Policy by hashes."""

from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from typing import Final

TEMPLATES: Final = Path(__file__).parent / "templates"
STYLE: Final = (TEMPLATES / "card.css").read_text(encoding="utf-8")
HEADERS: Final = {
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex, nofollow",
}


def content_security_policy(**allowed: str) -> str:
    """The page's policy: everything is refused but what is given; ``script_src`` is the directive script-src."""
    refused = {"default_src": "'none'", "form_action": "'none'", "base_uri": "'none'", "frame_ancestors": "'none'"}
    return "; ".join(f"{name.replace('_', '-')} {source}" for name, source in (refused | allowed).items())


def hash_source(block: str) -> str:
    """The source expression that allows exactly this block of style or script (CSP 3, section 6.7.3)."""
    return f"'sha256-{b64encode(sha256(block.encode()).digest()).decode()}'"
