"""Bundles for tests: small runs to make them of, and how somebody forges one who knows the format."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

from reprise.core import results
from reprise.core.results import PublishedValue, ResultRow
from reprise.core.workspace import Workspace
from reprise.evidence import crate
from reprise.evidence.crate import Contents, Digest
from reprise.launch.plan import Request, collect, plan
from reprise.launch.provenance import Provenance
from reprise.launch.work import work
from reprise.training.engine import choose
from reprise.training.fit import Stop

HERE = Path(__file__).resolve().parent


def measure(request: Request, where: Workspace) -> None:
    """Do what is asked for, here and now."""
    made_by, todo = Provenance("c0ffee" * 6 + "abcd", False), plan(request, where)
    for job in todo.jobs:
        work(job, where, choose("cpu", "fp32", 1), made_by, Stop(signals=()), lambda *_: None)
    collect(todo, where)


def contents(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def written(path: Path, files: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def with_manifest(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The files with a manifest that fits them."""
    others = {name: content for name, content in files.items() if name != crate.MANIFEST}
    lines = (f"{Digest.of(content).sha256}  {name}\n" for name, content in sorted(others.items()))
    return {**others, crate.MANIFEST: "".join(lines).encode()}


def forged(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Everything that is made, made of what the files say: what somebody does who knows the format."""
    given = {name: content for name, content in files.items() if name not in crate.MADE}
    title, protocol = crate.restored(files[crate.PROTOCOL].decode())
    published = files.get(crate.PUBLISHED, b"").decode()
    made = crate.made(
        Contents(
            title=title,
            protocol=protocol,
            rows=results.parse(files[crate.ROWS].decode(), ResultRow, "rows"),
            published=results.parse(published, PublishedValue, "published") if published else [],
            evidence=crate.read_evidence(files[crate.EVIDENCE].decode()),
            citation=files[crate.CITATION].decode(),
            given={name: Digest.of(content) for name, content in given.items()},
        )
    )
    return {**given, **made}
