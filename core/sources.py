"""Whether a visitor's code is still what it was: a digest of the source behind a class.

Classes of this package have a `version`, and tests that ask for a new one when a default changes. Nobody watches over
a visitor's file; so its digest is kept with everything that was made by it, and compared (core/run.py).
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
from functools import cache
from pathlib import Path

_OURS = __package__.partition(".")[0]


def source(cls: type) -> str:
    """Digest of the module of a visitor's class and of what that imports of its own package; "" for a class of ours.

    Comments and layout do not count.
    """
    module = cls.__module__
    return "" if module.partition(".")[0] == _OURS else _digest(module)


def with_source(version: int, cls: type) -> int | str:
    """The version of a class, with the digest of a visitor's source: who edits a metric measures anew."""
    digest = source(cls)
    return f"{version} {digest}" if digest else version


@cache  # the code that runs is the one that was imported, whatever becomes of the file
def _digest(module: str) -> str:
    texts: dict[str, str] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in texts:
            continue
        texts[name], imported = _read(name)
        package = module.partition(".")[0]
        waiting += [other for other in imported if other.partition(".")[0] == package]
    found = sorted((name, text) for name, text in texts.items() if text)
    return hashlib.sha256(repr(found).encode()).hexdigest()[:12] if found else ""


def _read(module: str) -> tuple[str, list[str]]:
    """What a module says, and the names that it imports; nothing of one that has no source to be read."""
    try:
        found = importlib.util.find_spec(module)
        if found is None or found.origin is None:
            return "", []
        tree = ast.parse(Path(found.origin).read_bytes())
    except Exception:
        # No module of that name, no file, no Python: importing it has said so, or will.
        return "", []
    imported = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            within = module if found.submodule_search_locations else module.rpartition(".")[0]
            above = within.split(".")[: len(within.split(".")) - node.level + 1]
            base = ".".join([*(above if node.level else ()), *filter(None, [node.module])])
            imported += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return ast.unparse(tree), imported
