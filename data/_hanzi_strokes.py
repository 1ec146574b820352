"""The strokes of the composed characters: which characters, of which parts, and where each part's pen strokes run.

50 simplified characters of GB2312 level 1, each of two parts out of 31, so that a memory of parts has something to
find. "makemeahanzi": medians of the strokes from Make Me a Hanzi (Shaunak Kishore, after the font AR PL KaitiM GB of
Arphic; Arphic Public License), which gives every part the shape and the place that it has in its character. They are
read from the npm package hanzi-writer-data 2.0.1 or from a packed copy; both hold the same numbers, and their content
is checked. "typed": polylines of ten parts written by hand, in a few fixed places: 15 of the characters, for who has no
file.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
import zipfile
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..core.errors import DataError
from ..core.workspace import data_root
from . import _registry

Strokes = Literal["makemeahanzi", "typed"]
Points = NDArray[np.float64]  # (n, 2): x to the right, y down

# Each character with its first and its second part.
LEFT_RIGHT = (
    "林木木 明日月 好女子 如女口 妈女马 吗口马 杜木土 村木寸 相木目 肚月土 吐口土 和禾口 秋禾火 叶口十 汁氵十 杠木工 "
    "江氵工 休亻木 什亻十 打扌丁 灯火丁 对又寸 汉氵又 时日寸 讨讠寸 计讠十 旺日王 汪氵王 仔亻子 伙亻火 加力口"
)
TOP_BOTTOM = "杏木口 呆口木 男田力 思田心 李木子 季禾子 香禾日 岩山石 炎火火 昌日日"
HAT_UNDER = "苗艹田 灾宀火 字宀子 安宀女 宋宀木"
FRAME_INNER = "问门口 间门日 困囗木 因囗大"
COMPOSED: dict[str, tuple[str, str]] = {
    word[0]: (word[1], word[2])
    for words in (LEFT_RIGHT, TOP_BOTTOM, HAT_UNDER, FRAME_INNER)
    for word in words.split()
}

# The parts, and how many strokes each has.
# fmt: off
PARTS = {
    "木": 4, "日": 4, "月": 4, "口": 3, "女": 3, "子": 3, "马": 3, "土": 3, "寸": 3, "目": 5, "禾": 5, "火": 4, "力": 2,
    "十": 2, "氵": 3, "工": 3, "亻": 2, "丁": 2, "扌": 3, "又": 2, "讠": 2, "王": 4, "艹": 3, "田": 5, "心": 4, "山": 3,
    "石": 5, "大": 3, "宀": 3, "门": 3, "囗": 3,
}
# On a grid of 0..10, in the order of writing.
_TYPED: dict[str, tuple[tuple[tuple[float, float], ...], ...]] = {
    "口": (((2, 2), (2, 8)), ((2, 2), (8, 2), (8, 8)), ((2, 8), (8, 8))),
    "日": (((2, 1), (2, 9)), ((2, 1), (8, 1), (8, 9)), ((2, 5), (8, 5)), ((2, 9), (8, 9))),
    "木": (((1, 3), (9, 3)), ((5, 0), (5, 10)), ((5, 3), (3, 6), (1, 8)), ((5, 3), (7, 6), (9, 8))),
    "土": (((2, 4), (8, 4)), ((5, 1), (5, 9)), ((0, 9), (10, 9))),
    "十": (((0, 4), (10, 4)), ((5, 0), (5, 10))),
    "工": (((1, 2), (9, 2)), ((5, 2), (5, 9)), ((0, 9), (10, 9))),
    "王": (((1, 1), (9, 1)), ((2, 5), (8, 5)), ((5, 1), (5, 9)), ((0, 9), (10, 9))),
    "氵": (((4, 1), (6, 2)), ((3, 4), (5, 5)), ((3, 10), (6, 6))),
    "亻": (((6, 0), (4, 3), (2, 5)), ((5, 3), (5, 10))),
    "女": (((4, 0), (2, 5), (8, 9)), ((7, 3), (5, 7), (1, 10)), ((0, 4), (10, 4))),
}
# fmt: on
# Where the two parts of a typed character stand: x0, y0, x1, y1 in the unit square.
_PLACES = {
    LEFT_RIGHT: ((0, 0.05, 0.42, 0.95), (0.45, 0.05, 1, 0.95)),
    TOP_BOTTOM: ((0.08, 0, 0.92, 0.46), (0.08, 0.5, 0.92, 1)),
}

# SHA-256 of the medians of the 50 characters, whatever file they were read from.
CONTENT = "84815a927b7ca55b0c6d507c08dd05c756b7517ff9a84057915af0429f7c1eb4"


class Part(NamedTuple):
    """One part of one character. box: (4,) its place (x0, y0, x1, y1) in the unit square.

    strokes: control points (n, 2) each, in units of that box.
    """

    name: str
    box: Points
    strokes: tuple[Points, ...]


@lru_cache(maxsize=4)
def characters(strokes: Strokes) -> dict[str, tuple[Part, Part]]:
    """The characters and their two parts, in the order of the classes. Raises DataError without the right files."""
    if strokes == "typed":
        return _typed()
    return _measured(data_root())


def _typed() -> dict[str, tuple[Part, Part]]:
    found = {}
    for words, places in _PLACES.items():
        for word in words.split():
            if {word[1], word[2]} <= set(_TYPED):
                one, two = (
                    Part(name, np.array(box), tuple(np.array(line) / 10 for line in _TYPED[name]))
                    for name, box in zip(word[1:], places, strict=True)
                )
                found[word[0]] = (one, two)
    return found


def _measured(root: Path) -> dict[str, tuple[Part, Part]]:
    found = {}
    for character, lines in medians().items():
        first, second = COMPOSED[character]
        inner = PARTS[first]
        if first == "囗":  # closed only when its content is written
            halves = (*lines[:2], lines[-1]), lines[2:-1]
        else:
            halves = lines[:inner], lines[inner:]
        one, two = (_part(name, half) for name, half in zip((first, second), halves, strict=True))
        found[character] = (one, two)
    return found


def _part(name: str, lines: tuple[NDArray[np.int64], ...]) -> Part:
    simple = [_simplified(line.astype(np.float64) / 1024) for line in lines]
    every = np.concatenate(simple)
    low, high = every.min(0), every.max(0)
    return Part(
        name,
        np.concatenate([low, high]),
        tuple((line - low) / (high - low) for line in simple),
    )


_STRAIGHT = (
    0.012  # of the character's square: a bend flatter than this is the font's, not the stroke's
)


def _simplified(line: Points) -> Points:
    """The fewest of a polyline's points that keep within `_STRAIGHT` of it (Ramer 1972; Douglas & Peucker 1973)."""
    if len(line) < 3:
        return line
    start, end = line[0], line[-1]
    along = end - start
    aside = (line - start) @ np.array([-along[1], along[0]]) / max(np.hypot(*along), 1e-9)
    furthest = int(np.abs(aside).argmax())
    if abs(aside[furthest]) <= _STRAIGHT:
        return np.stack([start, end])
    return np.concatenate([_simplified(line[: furthest + 1])[:-1], _simplified(line[furthest:])])


def medians() -> dict[str, tuple[NDArray[np.int64], ...]]:
    """The medians (n, 2) of each character's strokes, x to the right and y down, in a square of 1024.

    Raises DataError where there is no file, where it cannot be read, or where it holds other strokes.
    """
    (file,) = _registry.present("hanzi")
    path = _registry.checked("hanzi", file)
    try:
        found = _packed(path) if path.suffix == ".npz" else _package(path)
        found = {character: found[character] for character in COMPOSED}
    except (
        OSError,
        EOFError,
        KeyError,
        ValueError,
        zlib.error,
        zipfile.BadZipFile,
        tarfile.TarError,
    ) as error:
        raise DataError(
            f"cannot read {path}: {error}; mend it with `reprise data fetch hanzi`"
        ) from error
    if (digest := content_digest(found)) != CONTENT:
        raise DataError(
            f"the strokes in {path} have the content digest {digest}, expected {CONTENT}; "
            "mend it with `reprise data fetch hanzi`"
        )
    return found


def content_digest(found: dict[str, tuple[NDArray[np.int64], ...]]) -> str:
    """SHA-256 of the medians as JSON, character by character."""
    plain = [[character, [line.tolist() for line in lines]] for character, lines in found.items()]
    return hashlib.sha256(json.dumps(plain, ensure_ascii=False).encode()).hexdigest()


def _package(path: Path) -> dict[str, tuple[NDArray[np.int64], ...]]:
    """Of hanzi-writer-data: one file of JSON for each character; there y is up, from 900 at the top."""
    wanted = {f"package/{character}.json": character for character in COMPOSED}
    found = {}
    with tarfile.open(path) as archive:
        for member in archive:
            content = archive.extractfile(member) if member.name in wanted else None
            if content is not None:
                lines = [np.array(line) for line in json.load(content)["medians"]]
                found[wanted[member.name]] = tuple(
                    np.stack([line[:, 0], 900 - line[:, 1]], axis=1) for line in lines
                )
    return found


def _packed(path: Path) -> dict[str, tuple[NDArray[np.int64], ...]]:
    """Of a copy as arrays: char, char_offsets (into the strokes), stroke_offsets (into the points), median_points."""
    with np.load(path, allow_pickle=False) as arrays:
        names = arrays["char"].tolist()
        of_character, of_stroke = arrays["char_offsets"], arrays["stroke_offsets"]
        points = arrays["median_points"].astype(np.int64)
    found = {}
    for character in COMPOSED:
        row = names.index(character)
        found[character] = tuple(
            points[of_stroke[stroke] : of_stroke[stroke + 1]]
            for stroke in range(of_character[row], of_character[row + 1])
        )
    return found
