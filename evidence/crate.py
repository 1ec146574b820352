"""The crate: what is in an evidence bundle, and everything in it that follows from the rest. No torch here.

A bundle holds what was *given* (per-image values, logs, settings, published values, lock) and what is *made* of it
(rows as CSV, tables, the description of the crate, the manifest). `made` is the one function that makes it:
writing a bundle calls it on the rows as recorded, verifying on the rows as recomputed; they must agree byte for byte.

The layout is that of an RO-Crate 1.1 (https://w3id.org/ro/crate/1.1): a flat JSON-LD document beside the files.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from unicodedata import category
from urllib.parse import quote, unquote

from ..core import spec
from ..core.protocol import TIERS, Axis, Protocol, Table
from ..core.results import PublishedValue, ResultRow, to_csv
from ..core.spec import Kind, Spec
from ..render.table import ResultTable, build, long, pivot_grid, to_latex, to_markdown

FORMAT = 2  # of evidence.json; 1 did not say what cells are named after
METADATA, MANIFEST, README = "ro-crate-metadata.json", "manifest-sha256.txt", "README.md"
EVIDENCE, PROTOCOL = "evidence.json", "protocol.json"
ROWS, PUBLISHED, SECOND = "results.csv", "published.csv", "second_reading.csv"
CITATION, LICENCE, LOCK = "CITATION.cff", "LICENSE", "constraints.txt"
TABLES = ("tables/table.md", "tables/table.tex", "tables/table.csv")
MADE = (ROWS, *TABLES, README, METADATA, MANIFEST)
GIVEN = (EVIDENCE, PROTOCOL, PUBLISHED, SECOND, CITATION, LICENCE, LOCK)
OF_RUN = ("run.json", "log.csv", "trained.json")
MOST_CELLS = 100_000
MOST_FILES = 200_000
MOST_BYTES = 16 * 2**30  # of everything, unpacked
MOST_READ = 2**30  # of one file whose content is looked at
KINDS = "biufU"  # of stored values: truth values, whole and real numbers, text
MOST_RATIO = 100  # of a file to what it is packed into; what could be smaller is stored as it is, unlike in a zip bomb

DESCRIPTIONS = {
    EVIDENCE: "For every cell how its number follows from its values, or why it cannot be made again",
    PROTOCOL: "The protocol: labels, specifications and layout of the table",
    PUBLISHED: "The published values, with page, table, row and column",
    SECOND: "A second, independent reading of the published values",
    CITATION: "How to cite the software",
    LICENCE: "Licence of the software",
    LOCK: "The pinned versions of everything the software needs",
    ROWS: "The rows: one number per line, with its provenance",
    TABLES[0]: "The table and every cell of it, as Markdown",
    TABLES[1]: "The table as LaTeX",
    TABLES[2]: "Every cell of the table, as CSV",
    README: "What is in here, what is not, and how to verify it",
    MANIFEST: "SHA-256 of every other file",
    "run.json": "The run's identity and effective settings",
    "log.csv": "The training log",
    "trained.json": "Settings, their difference from the recipe, and the learning curve, thinned",
}
FORMATS = {
    "json": "application/json",
    "csv": "text/csv",
    "md": "text/markdown",
    "tex": "application/x-tex",
    "txt": "text/plain",
    "cff": "application/yaml",
    "npy": "application/octet-stream",
}


@dataclass(frozen=True)
class Digest:
    """Of one file: its size in bytes and its SHA-256 in hexadecimal."""

    size: int
    sha256: str

    @classmethod
    def of(cls, content: bytes) -> Digest:
        """The digest of a file's content."""
        return cls(len(content), hashlib.sha256(content).hexdigest())


@dataclass(frozen=True)
class Cell:
    """What a bundle says of one measured cell. reduction: core/reductions.py. why: it cannot be made again, or "".

    identity: what the cell's id is the hash of; None where that is not known, as in bundles of format 1.
    """

    run: str
    reduction: str
    why: str
    identity: list[Any] | None = None


@dataclass(frozen=True)
class Evidence:
    """evidence.json: cells by their id; missing: sentences on what should be in the bundle and is not."""

    name: str
    tier: str
    cells: Mapping[str, Cell]
    missing: tuple[str, ...]

    def text(self) -> str:
        """The file."""
        cells = {name: vars(cell) for name, cell in sorted(self.cells.items())}
        head = {"format": FORMAT, "protocol": self.name, "tier": self.tier}
        return to_json({**head, "cells": cells, "missing": list(self.missing)})


def read_evidence(text: str) -> Evidence:
    """The file read back. Raises ValueError for anything else."""
    found = from_json(text)
    if found.keys() != {"format", "protocol", "tier", "cells", "missing"}:
        raise ValueError("it has other keys than format, protocol, tier, cells and missing")
    if found["format"] not in (1, FORMAT):
        raise ValueError(f"its format is {found['format']!r}; this program reads 1 and {FORMAT}")
    expected = ["run", "reduction", "why", *(["identity"] if found["format"] == FORMAT else [])]
    if found["tier"] not in TIERS or not re.fullmatch(r"\w+", str(found["protocol"])):
        raise ValueError("its protocol or tier is no such name")
    cells = {}
    for name, cell in _mapping(found["cells"]).items():
        if _mapping(cell).keys() != {*expected}:
            raise ValueError(f"cell {name!r} must say {', '.join(expected)}, and nothing else")
        if not _are_texts(cell[key] for key in expected[:3]):
            raise ValueError(f"cell {name!r} must say run, reduction and why as texts")
        if cell.get("identity") is not None and not _is_identity(cell["identity"]):
            raise ValueError(f"the identity of cell {name!r} is none")
        cells[name] = Cell(**cell)
    if not isinstance(found["missing"], list) or not _are_texts(found["missing"]):
        raise ValueError("`missing` is not a list of sentences")
    return Evidence(found["protocol"], found["tier"], cells, tuple(found["missing"]))


def _is_identity(value: Any) -> bool:
    """Whether it has the form of `Run.identity_of_cell`."""
    match value:
        case [str(), dict(), data, metric] | [str(), dict(), data, metric, ["trained", float()]]:
            return _is_part(data) and _is_part(metric)
    return False


def _is_part(value: Any) -> bool:
    """A name, a version (a visitor's has a digest behind it) and the options that differ from the defaults."""
    match value:
        case [str(), int() | str(), dict()]:
            return True
    return False


def values_path(run: str, cell: str, array: str) -> str:
    """Where one array of a cell is; the name of an array may hold any character."""
    return f"values/{run}/{cell}/{quote(array, safe='')}.npy"


def array_of(path: str) -> tuple[str, str, str] | None:
    """(run, cell, array) of such a path, None for another one."""
    match = re.fullmatch(r"values/([^/]+)/([^/]+)/([^/]+)\.npy", path)
    return (match[1], match[2], unquote(match[3])) if match else None


def refused(path: str) -> str:
    """Why no file of a bundle can be called so; "" if one can."""
    if path.endswith("/"):
        return (
            "is an entry for a folder, and a bundle holds files alone (zip -D leaves folders out)"
        )
    parts = path.split("/")
    plain = all(re.fullmatch(r"[\w.%() +@~=,'!&;\-]+", part) for part in parts)
    if not plain or not {".", ".."}.isdisjoint(parts):
        return "could climb out of a folder, or cannot be written on every disk"
    return ""


def unprintable(rows: Iterable[ResultRow]) -> str:
    """A text in the rows that would break out of the line or the cell it is shown in; "" if there is none."""
    texts = (text for row in rows for text in vars(row).values() if isinstance(text, str))
    odd = ("Cc", "Cf", "Cs", "Zl", "Zp")  # controls, marks that turn text around, line ends
    return next((text for text in texts if any(category(c) in odd for c in text)), "")


# The protocol as data -------------------------------------------------------------------------------------------------


def described(name: str, title: str, protocol: Protocol) -> str:
    """protocol.json: what a table needs of a protocol, as data: it can be made again where the code has changed."""
    layout = (
        {"rows": list(protocol.rows), "columns": list(protocol.columns)}
        if isinstance(protocol, Table)
        else {}
    )
    return to_json(
        {
            "name": name,
            "title": title,
            "paper": protocol.paper,
            "models": {label: str(spec) for label, spec in protocol.models.items()},
            "datasets": {label: str(spec) for label, spec in protocol.datasets.items()},
            "metrics": {label: str(spec) for label, spec in protocol.metrics.items()},
            "train": {label: str(spec) for label, spec in protocol.train.items()},
            "seeds": protocol.seeds,
            "seeds_at": dict(protocol.seeds_at),
            "only": {label: list(metrics) for label, metrics in protocol.only.items()},
            "only_on": {label: list(datasets) for label, datasets in protocol.only_on.items()},
            "sizes": {
                tier: [{axis: list(labels) for axis, labels in block.items()} for block in blocks]
                for tier, blocks in protocol.sizes.items()
            },
            "pending": list(protocol.pending),
            **layout,
        }
    )


def restored(text: str) -> tuple[str, Protocol]:
    """(title, protocol) of such a file; claims, deviations and drawing are left behind. Raises ValueError."""
    found = from_json(text)
    axes = typing.get_args(Axis)
    plain: dict[str, Any] = {
        "paper": _text(found["paper"]),
        "models": _specs("model", found["models"]),
        "datasets": _specs("dataset", found["datasets"]),
        "metrics": _specs("metric", found["metrics"]),
        "train": _specs("dataset", found["train"]),
        "seeds": _count(found["seeds"]),
        "seeds_at": {_text(k): _count(v) for k, v in _mapping(found["seeds_at"]).items()},
        "only": {_text(k): _texts(v) for k, v in _mapping(found["only"]).items()},
        # bundles of before there was such a thing have none
        "only_on": {_text(k): _texts(v) for k, v in _mapping(found.get("only_on", {})).items()},
        "sizes": {
            _text(tier): tuple(
                {axis: _texts(labels) for axis, labels in _mapping(block).items()}
                for block in _list(blocks)
            )
            for tier, blocks in _mapping(found["sizes"]).items()
        },
        "pending": _texts(found["pending"]),
    }
    cells = len(plain["models"]) * len(plain["datasets"]) * len(plain["metrics"])
    if cells > MOST_CELLS:
        raise ValueError(f"it has {cells} cells, more than any table")
    if "rows" not in found:
        return _text(found["title"]), Protocol(**plain)
    layout = {key: _texts(found[key]) for key in ("rows", "columns")}
    along = [*layout["rows"], *layout["columns"]]
    if not set(along) <= set(axes) or len(set(along)) < len(along) or not layout["columns"]:
        raise ValueError(f"rows and columns must be some of {', '.join(axes)}, each once")
    return _text(found["title"]), Table(**plain, **layout)  # type: ignore[arg-type]  # checked above


def _specs(kind: Kind, found: Any) -> dict[str, Spec]:
    return {_text(label): spec.read(kind, _text(text)) for label, text in _mapping(found).items()}


# What is made of the rest ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What a bundle is made of. given: path -> digest, of every file that is not made."""

    title: str
    protocol: Protocol
    rows: Sequence[ResultRow]
    published: Sequence[PublishedValue]
    evidence: Evidence
    citation: str
    given: Mapping[str, Digest]


def made(contents: Contents) -> dict[str, bytes]:
    """Everything in a bundle that follows from the rest; the same contents give the same bytes."""
    evidence = contents.evidence
    table = build(
        evidence.name, contents.protocol, contents.rows, contents.published, evidence.tier
    )
    texts = {
        ROWS: to_csv(contents.rows, ResultRow),
        TABLES[0]: markdown(contents.title, table),
        TABLES[1]: to_latex(table),
        TABLES[2]: as_csv(table),
        README: readme(contents),
    }
    found = {path: text.encode() for path, text in texts.items()}
    digests = {**contents.given, **{path: Digest.of(content) for path, content in found.items()}}
    found[METADATA] = metadata(contents, digests).encode()
    digests[METADATA] = Digest.of(found[METADATA])
    lines = (f"{digest.sha256}  {path}\n" for path, digest in sorted(digests.items()))
    found[MANIFEST] = "".join(lines).encode()
    return found


def markdown(title: str, table: ResultTable) -> str:
    """The table as printed, every cell, footnotes, orders and the summary."""
    notes = [f"{note.mark} {note.text}" for note in table.footnotes]
    orders = [f"Order of the models, {d}, {m}: {agreement}." for d, m, agreement in table.orders]
    tier = f"Tier {table.tier}: {TIERS[table.tier].description}."  # type: ignore[index]  # checked when it was read
    parts = [
        f"# {title}",
        f"{table.protocol.paper}. {tier}",
        to_markdown(pivot_grid(table)),
        to_markdown(long(table)),
        *notes,
        *(f"{line}." for line in table.outlooks),
        *orders,
        f"{table.summary[:1].upper()}{table.summary[1:]}.",
    ]
    return "\n\n".join(parts) + "\n"


def as_csv(table: ResultTable) -> str:
    """Every cell as it is written, one per line."""
    grid, out = long(table), io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([head.text for head in grid.header[-1]])
    writer.writerows([str(field) for field in line] for line in grid.lines)
    return out.getvalue()


def readme(contents: Contents) -> str:
    """What is in the bundle and what is not."""
    evidence, rows = contents.evidence, [row for row in contents.rows if row.status == "ok"]
    plain = [row for row in rows if not evidence.cells[row.cell].why]
    lines = [
        f"# Evidence for {evidence.name}, tier {evidence.tier}",
        "",
        f"{contents.title}",
        "",
        f"{contents.protocol.paper}. {len(rows)} numbers; {len(plain)} can be made again from the values in here.",
        "",
        "`reprise verify-bundle FILE.zip` makes each of them and all tables again and compares byte for byte. That",
        "shows that the tables follow from the values; that the values came from these runs, only running them again.",
        "",
        "- `results.csv` the rows; `tables/` the tables; `published.csv` the published values",
        "- `values/RUN/CELL/*.npy` what was stored of each cell, per image; `evidence.json` how its number follows",
        "- `runs/RUN/` settings and training logs; `constraints.txt` the pinned versions",
        "- `ro-crate-metadata.json` all of this for machines; `manifest-sha256.txt` the digests",
        "",
        "Not in here: the weights, the images of the data sets (each row has the digest of its data), and the version",
        "of Python that measured, which rows do not record.",
    ]
    if unmade := [row for row in rows if evidence.cells[row.cell].why]:
        lines += ["", "Numbers that cannot be made again:", ""]
        lines += [f"- {label(row)}: {evidence.cells[row.cell].why}" for row in unmade]
    if evidence.missing:
        lines += ["", "Missing:", "", *(f"- {sentence}" for sentence in evidence.missing)]
    return "\n".join(lines) + "\n"


def label(row: ResultRow) -> str:
    """Which cell a row fills, in words."""
    return f"{row.model}, {row.dataset}, {row.metric}, seed {row.seed}"


def metadata(contents: Contents, digests: Mapping[str, Digest]) -> str:
    """ro-crate-metadata.json: the crate, its files, the software, the data, and one action per run."""
    evidence, rows = contents.evidence, contents.rows
    cited = _citation(contents.citation)
    licence = {"@id": f"https://spdx.org/licenses/{cited['license']}"}
    authors = [
        {"@id": f"#author-{number}", "@type": kind, "name": name}
        for number, (kind, name) in enumerate(cited["authors"], 1)
    ]
    runs: dict[str, list[ResultRow]] = {}
    for row in rows:
        if row.run:
            runs.setdefault(row.run, []).append(row)
    commits = sorted({commit for row in rows for commit in _commits(row)})
    software = [
        {
            "@id": f"#reprise-{commit}",
            "@type": "SoftwareApplication",
            "name": "reprise",
            "description": cited["title"],
            "softwareVersion": commit,
            "license": licence,
        }
        for commit in commits
    ]
    specs: dict[str, set[str]] = {}
    for row in rows:
        if row.data_digest:
            specs.setdefault(row.data_digest, set()).add(row.dataset_spec)
    data = [
        {
            "@id": f"#data-{digest}",
            "@type": "Dataset",
            "name": ", ".join(sorted(names)),
            "identifier": digest,
            "description": "Not in the crate; the identifier is the digest of its content",
        }
        for digest, names in sorted(specs.items())
    ]
    actions = [_action(run, of_run, digests) for run, of_run in sorted(runs.items())]
    paths = sorted([*digests, MANIFEST])
    dates = sorted(row.finished for row in rows if row.finished)
    root: dict[str, Any] = {
        "@id": "./",
        "@type": "Dataset",
        "name": f"Evidence for {evidence.name}, tier {evidence.tier}",
        "description": f"{contents.title} Rows, per-image values, settings, logs, lock and digests behind the table.",
        "datePublished": dates[-1][:10] if dates else cited["date-released"],
        "license": licence,
        "author": [{"@id": author["@id"]} for author in authors],
        "citation": {"@id": "#paper"},
        "hasPart": [{"@id": quote(path)} for path in paths],
        "mentions": [{"@id": action["@id"]} for action in actions],
    }
    graph: list[dict[str, Any]] = [
        {
            "@id": METADATA,
            "@type": "CreativeWork",
            "conformsTo": {"@id": "https://w3id.org/ro/crate/1.1"},
            "about": {"@id": "./"},
        },
        root,
        *(_file(path, digests.get(path)) for path in paths if path != METADATA),
        {"@id": "#paper", "@type": "ScholarlyArticle", "name": contents.protocol.paper},
        {**licence, "@type": "CreativeWork", "name": cited["license"], "url": licence["@id"]},
        *authors,
        *software,
        *data,
        *actions,
    ]
    root["hasPart"] = [part for part in root["hasPart"] if part["@id"] != METADATA]
    context = ["https://w3id.org/ro/crate/1.1/context", {"sha256": "https://schema.org/sha256"}]
    return to_json({"@context": context, "@graph": graph})


def _file(path: str, digest: Digest | None) -> dict[str, Any]:
    name = path.rpartition("/")[2]
    found: dict[str, Any] = {
        "@id": quote(path),
        "@type": "File",
        "name": path,
        "encodingFormat": FORMATS.get(name.rpartition(".")[2], "text/plain"),
    }
    if array := array_of(path):
        run, cell, what = array
        found["description"] = f"Array {what!r} of cell {cell} of {run}, as NumPy's NPY format"
    else:
        found["description"] = DESCRIPTIONS.get(path) or DESCRIPTIONS.get(name, "")
    if digest is not None:  # the manifest has those of all others, and cannot have its own
        found |= {"contentSize": str(digest.size), "sha256": digest.sha256}
    return found


def _action(run: str, rows: Sequence[ResultRow], digests: Mapping[str, Digest]) -> dict[str, Any]:
    """How the numbers of one run were made: by which software, of which data, into which files."""
    ok = all(row.status == "ok" for row in rows)
    commits = sorted({commit for row in rows for commit in _commits(row)})
    data = sorted({row.data_digest for row in rows if row.data_digest})
    inputs = [path for path in (f"runs/{run}/run.json", LOCK) if path in digests]
    outputs = [path for path in (f"runs/{run}/log.csv", ROWS) if path in digests]
    outputs += [path for path in sorted(digests) if path.startswith(f"values/{run}/")]
    found: dict[str, Any] = {
        "@id": f"#run-{quote(run)}",
        "@type": "CreateAction",
        "name": f"Training and measuring {run}",
        "description": "; ".join(
            f"{word} {', '.join(sorted({getattr(row, word) for row in rows} - {''}))}"
            for word in ("torch", "device", "precision")
            if any(getattr(row, word) for row in rows)
        ),
        "instrument": [{"@id": f"#reprise-{commit}"} for commit in commits],
        "object": [
            *({"@id": f"#data-{digest}"} for digest in data),
            *({"@id": quote(path)} for path in inputs),
        ],
        "result": [{"@id": quote(path)} for path in outputs],
        "actionStatus": f"http://schema.org/{'CompletedActionStatus' if ok else 'FailedActionStatus'}",
    }
    if dates := [row.finished for row in rows if row.finished]:
        found["endTime"] = max(dates)
    return found


def _commits(row: ResultRow) -> set[str]:
    return {*re.findall(r"\w+", row.commit), *re.findall(r"[0-9a-f]{7,40}", row.trained_commit)}


def _citation(text: str) -> dict[str, Any]:
    """Title, authors (kind, name), licence and date of a CITATION.cff. Raises ValueError for one without them.

    The format is YAML; of that, only what such a file needs is read: keys at the margin, and a list of authors.
    """

    def of(key: str) -> str:
        found = re.search(rf"^{key}:(.+)$", text, re.MULTILINE)
        if found is None:
            raise ValueError(f"{CITATION} does not say {key}")
        return found[1].strip(" \"'")

    block = re.search(r"^authors:\n((?:[ -].*\n)+)", text, re.MULTILINE)
    authors = []
    for one in re.split(r"^ *- ", block[1], flags=re.MULTILINE)[1:] if block else []:
        lines = re.findall(r"^ *([\w-]+):(.+)$", one, re.MULTILINE)
        said = {key: value.strip(' "') for key, value in lines}
        if "name" in said:
            authors.append(("Organization", said["name"]))
        elif "family-names" in said:
            authors.append(
                ("Person", f"{said.get('given-names', '')} {said['family-names']}".strip())
            )
    if not authors:
        raise ValueError(f"{CITATION} names no authors")
    return {key: of(key) for key in ("title", "license", "date-released")} | {"authors": authors}


# JSON that was not written by us --------------------------------------------------------------------------------------


def to_json(value: Any) -> str:
    """One form for every JSON file of a bundle."""
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def from_json(text: str) -> dict[str, Any]:
    """An object. Raises ValueError for anything else, for a key that stands twice, and for what nests too deeply."""

    def refuse(name: str) -> None:
        raise ValueError(f"{name} is no number")

    try:
        return _mapping(json.loads(text, object_pairs_hook=once, parse_constant=refuse))
    except RecursionError:
        raise ValueError("it nests too deeply") from None


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON. Raises ValueError where a key stands twice: each reader would take another one."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"expected an object, got {type(value).__name__}")
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"expected a list, got {type(value).__name__}")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"expected a text, got {type(value).__name__}")
    return value


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(_text(one) for one in _list(value))


def _count(value: Any) -> int:
    if type(value) is not int or not 1 <= value <= 1000:
        raise ValueError(f"expected a count of seeds, got {value!r}")
    return value


def _are_texts(values: Iterable[Any]) -> bool:
    return all(isinstance(value, str) for value in values)
