"""A page opened as a reader opens it: from a file, in a real browser, with everything it says and fetches noted."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Visit:
    """page: Playwright's. said: what went to the console, errors included. fetched: addresses beyond the file's own."""

    page: Any
    said: list[str] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)

    def is_quiet(self) -> bool:
        """Whether the page said nothing, failed nowhere and fetched nothing."""
        assert self.said == []
        assert self.fetched == []
        return True


def visit(browser: Any, file: Path, width: int = 1280, height: int = 900, **options: Any) -> Visit:
    """Open `file`; the browser is offline, so that whatever it tries to fetch fails as well."""
    context = browser.new_context(
        viewport={"width": width, "height": height}, offline=True, **options
    )
    context.set_default_timeout(10_000)
    made = Visit(context.new_page())
    made.page.on("console", lambda message: made.said.append(message.text))
    made.page.on("pageerror", lambda error: made.said.append(str(error)))

    def note(request: Any) -> None:
        if _is_foreign(request.url, file):
            made.fetched.append(request.url)

    made.page.on("request", note)
    made.page.goto(file.as_uri())
    return made


def _is_foreign(url: str, file: Path) -> bool:
    return url.partition("#")[0] != file.as_uri() and not url.startswith(("data:", "blob:"))
