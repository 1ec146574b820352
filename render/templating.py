"""What the templates of this folder can say: escapes, scripts and their digests, images as text. No torch here."""

from __future__ import annotations

import base64
import hashlib
import itertools
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

import jinja2

from .drawing import inches
from .table import escape_markdown

__all__ = ["TEMPLATES", "render", "spans"]

TEMPLATES = Path(__file__).resolve().parent / "templates"

# A shape beside each colour: nobody needs to tell green from orange.
SYMBOLS: Mapping[str, str] = {
    "equivalent": "●",
    "better": "▲",
    "worse": "▼",
    "different": "◆",
    "inconclusive": "◐",
    "incomparable": "○",
    "missing": "·",
    "none": "",
}


def render(template: str, **values: Any) -> str:
    """A page. HTML is escaped by itself; Markdown asks for `md` where a text comes from elsewhere."""
    return _environment().get_template(template).render(**values)


def spans(text: str) -> list[tuple[Literal["text", "code"], str]]:
    """Prose with `code` in it, taken apart."""
    parts = re.split(r"`([^`]*)`", text)
    kinds: itertools.cycle[Literal["text", "code"]] = itertools.cycle(("text", "code"))
    return [(kind, part) for kind, part in zip(kinds, parts, strict=False) if part]


def _prose_markdown(text: str) -> str:
    return "".join(
        f"`{part}`" if kind == "code" else escape_markdown_prose(part) for kind, part in spans(text)
    )


def escape_markdown_prose(text: str) -> str:
    """As `escape_markdown`, but keeping the spaces at both ends."""
    left, right = text[: len(text) - len(text.lstrip())], text[len(text.rstrip()) :]
    return f"{left and ' '}{escape_markdown(text)}{right and ' '}"


def _code_markdown(text: str) -> str:
    """A code span that no backtick of the text ends."""
    ticks = "`" * (max(map(len, re.findall("`+", text)), default=0) + 1)
    return f"{ticks}{text}{ticks}"


def _data_uri(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


def _script(name: str) -> str:
    """A script of this folder, as it stands inside a page."""
    return "\n" + (TEMPLATES / name).read_text(encoding="utf-8")


def _policy(name: str) -> str:
    """A Content-Security-Policy that lets one script of this folder run and no other, and nothing be fetched."""
    digest = base64.b64encode(hashlib.sha256(_script(name).encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=jinja2.select_autoescape(("html.j2",), default=False),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "md": escape_markdown,
        "code": _code_markdown,
        "prose": _prose_markdown,
        "spans": spans,
        "data_uri": _data_uri,
        "points": lambda line: " ".join(f"{x:g},{y:g}" for x, y in line),
        "pixels": lambda path: round(110 * inches(path)),
    }
    environment.globals |= {"symbols": SYMBOLS, "script": _script, "policy": _policy}
    return environment
