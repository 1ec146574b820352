"""Labelling: samples judged by people, as papers did it, and how far people and the automatic judge agree. No torch.

`export` writes one HTML file that shows the stored samples of all models, shuffled and unnamed, and takes success or
failure from the keyboard. What each image is stays in a key below runs/labels/: the same call makes the same page and
key again. `import_labels` reads what a rater exported, and keeps it as results/<tier>/labels/<protocol>-<rater>.json
and, as rows, in results/<tier>/<protocol>_by_hand.csv. A published number that was judged by hand is laid beside them.
"""

from __future__ import annotations

import base64
import csv
import dataclasses
import hashlib
import io
import itertools
import json
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..core.artifacts import Artifacts
from ..core.errors import DataError, UsageError, unknown
from ..core.files import write_text
from ..core.protocol import Protocol, load
from ..core.results import PublishedValue, ResultRow, read, write
from ..core.workspace import BY_HAND, Workspace
from .table import ResultTable, build
from .templating import render

__all__ = ["Agreement", "ByHand", "Exported", "by_hand", "export", "import_labels"]

IMAGES = 250  # per model and dataset, as published
COLUMNS = ("page", "rater", "item", "verdict", "time")
VERDICTS = {"success": True, "failure": False}
JUDGE = "the judge"


@dataclass(frozen=True)
class Item:
    """What one image of a page is, and what the automatic judge said of it (the key's line)."""

    metric: str
    model: str
    dataset: str
    seed: int
    cell: str
    artifact_digest: str
    index: int
    judged: bool

    @property
    def image(self) -> tuple[str, int]:
        """Which image, whoever judges it."""
        return self.cell, self.index


@dataclass(frozen=True)
class Label:
    """What a rater said of one image, and when (UTC, ISO 8601)."""

    item: Item
    success: bool
    time: str


@dataclass(frozen=True)
class Exported:
    """The page for the raters, and the key, which they must not see."""

    page: Path
    key: Path
    items: int


# The page -------------------------------------------------------------------------------------------------------------


def export(
    workspace: Workspace,
    protocol: str,
    tier: str,
    models: Sequence[str] = (),
    datasets: Sequence[str] = (),
    images: int = IMAGES,
    folder: Path = Path(),
) -> Exported:
    """Write label-<digest>.html into `folder`, and its key. Raises UsageError where there is nothing to judge."""
    name, found, _ = load(protocol)
    chosen = _chosen(workspace, name, found, tier, models, datasets)
    pictures: dict[str, dict[str, Any]] = {}
    key: dict[str, Item] = {}
    stored = {row.key: _stored(workspace, row, images) for row in chosen}
    # Nobody without the arrays can tell which image an id stands for, and sorting by id shuffles.
    secret = hashlib.sha256(b"".join(samples.tobytes() for samples, _ in stored.values()))
    laws = list(dict.fromkeys(found.by_hand[row.metric][row.dataset] for row in chosen))
    for row in chosen:
        samples, judged = stored[row.key]
        for index, (sample, verdict) in enumerate(zip(samples, judged, strict=True)):
            text = f"{secret.hexdigest()}/{row.cell}/{index}"
            item = hashlib.sha256(text.encode()).hexdigest()[:12]
            law = laws.index(found.by_hand[row.metric][row.dataset])
            pictures[item] = {"id": item, "law": law, "image": _png(sample)}
            key[item] = Item(
                row.metric, row.model, row.dataset, row.seed, row.cell, row.artifact_digest,
                index, bool(verdict),
            )  # fmt: skip
    ordered = sorted(pictures.values(), key=lambda picture: (picture["law"], picture["id"]))
    digest = hashlib.sha256(json.dumps([laws, ordered]).encode()).hexdigest()[:16]
    page = folder / f"label-{digest[:8]}.html"
    data = {"page": digest, "laws": laws, "items": ordered}
    write_text(page, render("label.html.j2", data=data, count=len(ordered)), "--out")
    kept = _key_path(workspace, digest)
    write_text(kept, _key_text(name, tier, digest, key))
    return Exported(page, kept, len(ordered))


def _chosen(
    workspace: Workspace,
    name: str,
    protocol: Protocol,
    tier: str,
    models: Sequence[str],
    datasets: Sequence[str],
) -> list[ResultRow]:
    """One row per model and dataset, the first seed's; what was measured and a person can judge."""
    if not protocol.by_hand:
        raise UsageError(f"{name} has nothing that people judge; its protocol names no `by_hand`")
    path = workspace.results(tier, name)
    rows = [row for row in read(path, ResultRow) if row.metric in protocol.by_hand]
    for kind, asked, known in (
        ("model", models, {row.model for row in rows}),
        ("dataset", datasets, {row.dataset for row in rows}),
    ):
        for label in asked:
            if label not in known:
                raise unknown(f"{kind} with samples to judge", label, known)
    first: dict[tuple[str, str, str], ResultRow] = {}
    for row in sorted(rows, key=lambda row: row.seed):
        wanted = (not models or row.model in models) and (not datasets or row.dataset in datasets)
        lawful = row.dataset in protocol.by_hand[row.metric]
        if wanted and lawful and row.status == "ok" and row.artifact:
            first.setdefault((row.model, row.dataset, row.metric), row)
    if not first:
        raise UsageError(f"{path} has no samples to judge; `run_protocol {name} --tier {tier}` makes them")  # fmt: skip
    return sorted(first.values(), key=lambda row: row.key)


def _stored(
    workspace: Workspace, row: ResultRow, images: int
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """The first samples (N, C, H, W) of a row and the judge's verdicts (N,)."""
    arrays = Artifacts(workspace.root / "runs", [row]).get(row.key, {})
    samples, judged = arrays.get("samples"), arrays.get("verdict")
    if samples is None or judged is None or samples.ndim != 4 or samples.dtype != np.uint8:
        raise DataError(
            f"runs/{row.artifact} with the samples of {row.model} on {row.dataset} is not there or not whole; "
            f"export where the runs are, or measure again in an empty --root"
        )
    count = min(images, len(samples), len(judged))
    return samples[:count], judged[:count].astype(bool)


def _png(sample: NDArray[np.uint8]) -> str:
    """(C, H, W) as base64."""
    out = io.BytesIO()
    picture = sample[0] if len(sample) == 1 else sample.transpose(1, 2, 0)
    Image.fromarray(picture).save(out, format="png", optimize=True)
    return base64.b64encode(out.getvalue()).decode()


def _key_path(workspace: Workspace, digest: str) -> Path:
    return workspace.root / "runs" / "labels" / f"{digest}.json"


def _key_text(protocol: str, tier: str, digest: str, key: Mapping[str, Item]) -> str:
    items = {name: dataclasses.astuple(item) for name, item in sorted(key.items())}
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(item)}" for name, item in items.items())
    head = json.dumps({"page": digest, "protocol": protocol, "tier": tier})
    return f'{head[:-1]}, "items": {{\n{lines}\n}}}}\n'


# What comes back ------------------------------------------------------------------------------------------------------


def import_labels(workspace: Workspace, file: Path) -> tuple[list[Path], str]:
    """Read what a rater exported; (the files that hold it now, a sentence on it).

    Raises DataError, and changes nothing, for a file that is not whole: another page, unknown or missing items,
    an item twice, several raters, a verdict that is none, samples that are not those of the results any more.
    """
    lines = _lines(file)
    pages, raters = ({line[name] for line in lines} for name in ("page", "rater"))
    if len(pages) != 1 or len(raters) != 1:
        raise DataError(
            f"{file} must hold one page and one rater; it holds {', '.join(sorted(pages | raters))}"
        )
    (page,), (rater,) = pages, raters
    if not re.fullmatch(r"[A-Z]{2,4}", rater):
        raise DataError(f"{file}: the rater {rater!r} is not two to four capital letters")
    name, tier, key = _key(workspace, page, file)
    labels = _labels(file, lines, key)
    base = _base_rows(workspace, name, tier, {item.cell: item for item in key.values()})
    path = workspace.labels(tier, name, rater)
    before = {label.item.image: label for label in read_labels(path)} if path.is_file() else {}
    changed = [
        label
        for label in labels
        if label.item.image in before and before[label.item.image].success != label.success
    ]
    if changed:
        raise DataError(
            f"{rater} judged {len(changed)} of these images otherwise before; delete {path} to begin again"
        )
    merged = {label.item.image: label for label in labels} | before
    write_text(path, _labels_text(name, tier, rater, merged.values()))
    rows_path = workspace.results(tier, f"{name}{BY_HAND}")
    write(rows_path, _rows(workspace, name, tier, base), ResultRow)
    good = sum(label.success for label in labels)
    return [path, rows_path], f"{rater} judged {len(labels)} images of {name}, {good} of them right"


def _lines(file: Path) -> list[dict[str, str]]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read: {error}") from error
    reader = csv.DictReader(io.StringIO(text), strict=True)
    try:
        lines = list(reader)
    except csv.Error as error:
        raise DataError(f"{file}, line {reader.line_num}: {error}") from error
    if tuple(reader.fieldnames or ()) != COLUMNS:
        raise DataError(
            f"{file} is no export of a labelling page; expected the columns {', '.join(COLUMNS)}"
        )
    for number, line in enumerate(lines, 2):
        if None in line or None in line.values():
            raise DataError(f"{file}, line {number}: another number of columns than the header")
    if not lines:
        raise DataError(f"{file} holds no labels")
    return lines


def _key(workspace: Workspace, page: str, file: Path) -> tuple[str, str, dict[str, Item]]:
    path = _key_path(workspace, page) if re.fullmatch(r"[0-9a-f]{16}", page) else None
    if path is None or not path.is_file():
        raise DataError(
            f"{file} belongs to the page {page!r}, whose key is not below {workspace.root / 'runs' / 'labels'}; "
            "call `reprise label export` with the arguments that made the page, which makes its key again"
        )
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        key = {str(name): Item(*values) for name, values in stored["items"].items()}
        return str(stored["protocol"]), str(stored["tier"]), key
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is damaged ({error}); call `reprise label export` again") from error  # fmt: skip


def _labels(file: Path, lines: Sequence[Mapping[str, str]], key: Mapping[str, Item]) -> list[Label]:
    found: dict[str, Label] = {}
    for number, line in enumerate(lines, 2):
        item, verdict, time = line["item"], line["verdict"], line["time"]
        if item not in key:
            raise DataError(f"{file}, line {number}: no image {item!r} on this page")
        if item in found:
            raise DataError(f"{file}, line {number}: the image {item} a second time")
        if verdict not in VERDICTS:
            raise DataError(f"{file}, line {number}: {verdict!r} is neither success nor failure")
        try:
            datetime.fromisoformat(time)
        except ValueError:
            raise DataError(f"{file}, line {number}: {time!r} is no time in ISO 8601") from None
        found[item] = Label(key[item], VERDICTS[verdict], time)
    if missing := sorted(key.keys() - found.keys()):
        raise DataError(
            f"{file} lacks {len(missing)} of the page's {len(key)} images ({', '.join(missing[:3])} …); "
            "open the page in the same browser, judge the rest and export again"
        )
    return list(found.values())


def _base_rows(
    workspace: Workspace, name: str, tier: str, cells: Mapping[str, Item]
) -> dict[str, ResultRow]:
    """Cell id -> the row whose samples were judged."""
    rows = {row.cell: row for row in read(workspace.results(tier, name), ResultRow) if row.cell}
    for cell, item in cells.items():
        if cell not in rows or rows[cell].artifact_digest != item.artifact_digest:
            raise DataError(
                f"the samples of {item.model} on {item.dataset} that were judged are no longer those of "
                f"{workspace.results(tier, name)}; export a new page"
            )
    return rows


def read_labels(path: Path) -> list[Label]:
    """Every label of a kept file. Raises DataError for one that is damaged."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return [Label(Item(*item), success, time) for *item, success, time in stored["labels"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged ({error}); restore it (git checkout)") from error


def _labels_text(name: str, tier: str, rater: str, labels: Iterable[Label]) -> str:
    ordered = sorted(labels, key=lambda label: (label.item.dataset, label.item.model, label.item.image))  # fmt: skip
    lines = [
        json.dumps([*dataclasses.astuple(label.item), label.success, label.time])
        for label in ordered
    ]
    names = [*(field.name for field in dataclasses.fields(Item)), "success", "time"]
    head = json.dumps({"protocol": name, "tier": tier, "rater": rater, "columns": names})
    return head[:-1] + ', "labels": [\n' + ",\n".join(lines) + "\n]}\n"


def _rows(
    workspace: Workspace, name: str, tier: str, base: Mapping[str, ResultRow]
) -> list[ResultRow]:
    """One row per rater and cell, of all raters."""
    rows = []
    for rater, labels in _kept(workspace, name, tier).items():
        by_cell: dict[str, list[Label]] = defaultdict(list)
        for label in labels:
            by_cell[label.item.cell].append(label)
        for cell, of_cell in by_cell.items():
            if cell not in base or base[cell].artifact_digest != of_cell[0].item.artifact_digest:
                continue  # of samples that the results have left behind; the labels stay
            value, n = sum(label.success for label in of_cell) / len(of_cell), len(of_cell)
            rows.append(
                dataclasses.replace(
                    base[cell],
                    protocol=f"{name}{BY_HAND}",
                    metric=f"{base[cell].metric} (by hand, {rater})",
                    metric_spec="by hand",
                    dialect=f"judge=hand rater={rater}",
                    value=value,
                    stderr=math.sqrt(value * (1 - value) / n),
                    n=n,
                    cell=hashlib.sha256(f"{cell}/{rater}".encode()).hexdigest()[:12],
                    commit="",  # no code measured
                    dirty=None,
                    measure_seconds=None,
                    finished=max(label.time for label in of_cell),
                )
            )
    return sorted(rows, key=lambda row: row.key)


def _kept(workspace: Workspace, name: str, tier: str) -> dict[str, list[Label]]:
    """Rater -> labels."""
    folder = workspace.labels(tier, name, "x").parent
    paths = sorted(folder.glob(f"{name}-*.json"))
    return {path.stem.rpartition("-")[2]: read_labels(path) for path in paths}


# What the report says of it -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Agreement:
    """How far two agree on the images that both judged.

    both, first_only, second_only, neither: how many images each of them calls a success.
    kappa: Cohen's, None where both gave one and the same verdict to all.
    """

    dataset: str
    first: str
    second: str
    both: int
    first_only: int
    second_only: int
    neither: int
    kappa: float | None

    @property
    def n(self) -> int:
        """How many images."""
        return self.both + self.first_only + self.second_only + self.neither

    @property
    def words(self) -> str:
        """κ and the share of equal verdicts."""
        same = (self.both + self.neither) / self.n
        kappa = "not defined, one verdict for all" if self.kappa is None else f"{self.kappa:.2f}"
        return f"κ = {kappa}; {same:.1%} alike".replace("-", "−")


@dataclass(frozen=True)
class ByHand:
    """table: what raters said, laid beside the published numbers. agreements: of raters and judge, in pairs."""

    table: ResultTable
    agreements: tuple[Agreement, ...]


def by_hand(
    workspace: Workspace,
    tier: str,
    name: str,
    protocol: Protocol,
    published: Iterable[PublishedValue],
) -> ByHand | None:
    """What people said of the samples of a protocol; None if nobody has judged any."""
    path = workspace.results(tier, f"{name}{BY_HAND}")
    if not path.is_file():
        return None
    rows, raters = read(path, ResultRow), _kept(workspace, name, tier)
    printed = [
        dataclasses.replace(value, metric=f"{value.metric} (by hand, {rater})")
        for value in published
        for rater in raters
        if value.metric in protocol.by_hand
    ]
    judged = {row.key[:3] for row in rows}
    # One page holds one seed's samples, as the paper judged one set of them.
    alone = dataclasses.replace(protocol, metrics={}, seeds=1)
    table = build(name, alone, rows, [value for value in printed if value.key in judged], tier)
    return ByHand(table, tuple(_agreements(raters)))


def _agreements(raters: Mapping[str, Sequence[Label]]) -> Iterator[Agreement]:
    said: dict[str, dict[tuple[str, int], tuple[str, bool]]] = {JUDGE: {}}
    for rater, labels in raters.items():
        said[rater] = {label.item.image: (label.item.dataset, label.success) for label in labels}
        said[JUDGE] |= {label.item.image: (label.item.dataset, label.item.judged) for label in labels}  # fmt: skip
    names = [*raters, JUDGE]
    for first, second in itertools.combinations(names, 2):
        shared = sorted(said[first].keys() & said[second].keys())
        of: dict[str, list[tuple[bool, bool]]] = defaultdict(list)
        for image in shared:
            dataset, verdict = said[first][image]
            of[dataset].append((verdict, said[second][image][1]))
        for dataset, pairs in of.items():
            yield agreement(dataset, first, second, pairs)


def agreement(
    dataset: str, first: str, second: str, pairs: Sequence[tuple[bool, bool]]
) -> Agreement:
    """Counts and Cohen's kappa of two verdicts per image."""
    kappa = None
    if len({verdict for pair in pairs for verdict in pair}) > 1:
        from sklearn.metrics import cohen_kappa_score

        kappa = float(cohen_kappa_score(*zip(*pairs, strict=True)))
    return Agreement(
        dataset,
        first,
        second,
        both=pairs.count((True, True)),
        first_only=pairs.count((True, False)),
        second_only=pairs.count((False, True)),
        neither=pairs.count((False, False)),
        kappa=kappa,
    )
