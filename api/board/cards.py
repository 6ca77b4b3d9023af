"""What the pages that mails link to share: one card, a policy that lets only its own blocks work, no index."""

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
    """The page's policy: nothing but what is allowed, where ``script_src`` is the directive script-src."""
    said = {"default_src": "'none'", "form_action": "'none'", "base_uri": "'none'", "frame_ancestors": "'none'"}
    return "; ".join(f"{name.replace('_', '-')} {source}" for name, source in (said | allowed).items())


def hash_source(block: str) -> str:
    """The source that lets this very block of style or script work (CSP 3, section 6.7.3)."""
    return f"'sha256-{b64encode(sha256(block.encode()).digest()).decode()}'"
