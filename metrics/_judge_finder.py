"""The judge's finder: what objects are in an image, where, and what each reads as.

Ink is what is brighter than a threshold; an object is a connected piece of ink. Two repairs follow, because a model
draws digits that touch and digits that fall apart: pieces that together are no larger than one digit are joined, and a
piece that is too large for one digit, or reads as none, is cut in two where both parts then read as digits.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from ._judge_reader import CANVAS, NOT_A_DIGIT, VIEWS, Reader, window_side

# Lengths in pixels of a 128-pixel canvas, where a digit's longer side is 20.
SMALLEST = 12  # area: anything smaller is a speck
FRAGMENTS_GAP, FRAGMENTS_SIDE = 3, 22  # pieces this near and together this large are one object
JOIN_GAP, JOIN_SIDE = 6, 24  # two pieces, one in doubt, may be one if together they read as one
SHORT = 12  # a shorter longer side is no digit's: its piece is in doubt, whatever it reads as
LARGEST = 24  # a longer side is more than one digit
REACH = 1.01  # pixels with nothing between them are this near
FRINGE = 2  # fainter pixels this near belong to a piece
DIGIT_SIDE = 20
ANGLES, OBLIQUE = 8, 16  # directions of cuts; how many oblique cuts are tried
CROSSING = 0.98  # what a cut is worth less for each pixel of ink that it crosses
DOUBT = 0.5  # a piece is in doubt if it reads as no class with at least this probability
CERTAIN = 0.7  # a piece of a digit's size is cut only if it is no digit and the cut is worth more than this


class Found(NamedTuple):
    """The objects of one image. centre: (O, 2) x and y of the middle of the box, in pixels of the canvas.

    probability: (O, 11), the last for "not a digit". side: (O,) longer side of the box in pixels.
    """

    centre: NDArray[np.float64]
    probability: NDArray[np.float32]
    side: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class _Piece:
    """The pixels of one object, above the threshold. image: which. y, x: (P,) coordinates."""

    image: int
    y: NDArray[np.int64]
    x: NDArray[np.int64]

    @cached_property
    def box(self) -> tuple[int, int, int, int]:
        return int(self.x.min()), int(self.y.min()), int(self.x.max()) + 1, int(self.y.max()) + 1

    @property
    def side(self) -> int:
        x0, y0, x1, y1 = self.box
        return max(x1 - x0, y1 - y0)

    @property
    def centre(self) -> tuple[float, float]:
        x0, y0, x1, y1 = self.box
        return (x0 + x1) / 2, (y0 + y1) / 2

    def with_(self, other: _Piece) -> _Piece:
        return _Piece(self.image, np.append(self.y, other.y), np.append(self.x, other.x))


def find(images: NDArray[np.uint8], reader: Reader, threshold: float) -> list[Found]:
    """What is in each of the images (N, H, W), H = W. threshold: brightness of ink, of 1."""
    scale = images.shape[-1] / CANVAS
    page = _Page(np.float32(1 / 255) * images, threshold, reader, scale)
    found: list[Found] = []
    pieces = [
        [piece for piece in _joined(parts, scale) if len(piece.y) >= SMALLEST * scale**2]
        for parts in _components(images > 255 * threshold)
    ]
    read = page.read([piece for parts in pieces for piece in parts])
    start = 0
    for parts in pieces:
        parts, probability = _mended(parts, read[start : (start := start + len(parts))], page)
        found.append(
            Found(
                np.array([p.centre for p in parts], dtype=np.float64).reshape(-1, 2),
                probability,
                np.array([p.side for p in parts], dtype=np.float64),
            )
        )
    return found


def _components(ink: NDArray[np.bool_]) -> list[list[_Piece]]:
    """The 8-connected pieces of each image (N, H, W)."""
    neighbours = np.zeros((3, 3, 3), dtype=int)
    neighbours[1] = 1  # none across images
    labels, count = ndimage.label(ink, neighbours)
    image, y, x = np.nonzero(labels)
    label = labels[image, y, x]
    order = np.argsort(label, kind="stable")
    ends = np.cumsum(np.bincount(label, minlength=count + 1))
    result: list[list[_Piece]] = [[] for _ in ink]
    for start, end in pairwise(ends):
        rows = order[start:end]
        result[image[rows[0]]].append(_Piece(int(image[rows[0]]), y[rows], x[rows]))
    return result


def _joined(parts: list[_Piece], scale: float) -> list[_Piece]:
    """Pieces that are near and together no larger than a digit become one, until none is left.

    The pair that is joined is always the first in order. An unlearned model's samples are full of specks, and almost
    all pairs of them are ruled out by their boxes alone.
    """
    parts = list(parts)
    if len(parts) < 2:
        return parts
    gap, side = FRAGMENTS_GAP * scale, FRAGMENTS_SIDE * scale
    box = np.array([part.box for part in parts])
    untried = np.tril([_in_reach(box, each, gap, side) for each in box], -1)
    while untried.any():
        i, j = divmod(int(untried.argmax()), len(parts))
        untried[i, j] = False
        if not _adjoin(parts[i], parts[j], gap, side):
            continue
        parts[j] = parts[j].with_(parts.pop(i))
        box, untried = np.delete(box, i, 0), np.delete(np.delete(untried, i, 0), i, 1)
        box[j] = parts[j].box
        anew = _in_reach(box, box[j], gap, side)
        untried[j, :j], untried[j + 1 :, j] = anew[:j], anew[j + 1 :]
    return parts


def _in_reach(
    box: NDArray[np.int64], other: NDArray[np.int64], gap: float, side: float
) -> NDArray[np.bool_]:
    """Which of the pieces with these boxes (N, 4) `_adjoin` may find to adjoin one with the box `other` (4,)."""
    low, high = np.minimum(box[:, :2], other[:2]), np.maximum(box[:, 2:], other[2:])
    between = np.maximum(np.maximum(box[:, :2] - other[2:], other[:2] - box[:, 2:]) + 1, 0)
    possible: NDArray[np.bool_] = ((high - low).max(1) <= side) & (
        np.hypot(*between.T) < gap + REACH
    )
    return possible


def _adjoin(a: _Piece, b: _Piece, gap: float, side: float) -> bool:
    """Whether the box of both is no longer than `side` and no more than `gap` pixels lie between them."""
    ax0, ay0, ax1, ay1 = a.box
    bx0, by0, bx1, by1 = b.box
    if max(max(ax1, bx1) - min(ax0, bx0), max(ay1, by1) - min(ay0, by0)) > side:
        return False
    tree = cKDTree(np.column_stack([a.y, a.x]))
    nearest, _ = tree.query(np.column_stack([b.y, b.x]), distance_upper_bound=gap + REACH)
    return bool(np.isfinite(nearest).any())


class _Page:
    """The images of one call and how pieces of them are read."""

    def __init__(
        self, images: NDArray[np.float32], threshold: float, reader: Reader, scale: float
    ) -> None:
        self.side = window_side(images.shape[-1])
        self.margin = self.side
        self.images = np.pad(images, ((0, 0), (self.margin,) * 2, (self.margin,) * 2))
        self.threshold, self.reader, self.scale = threshold, reader, scale

    def read(self, pieces: list[_Piece], views: int = len(VIEWS)) -> NDArray[np.float32]:
        """Class probabilities (N, 11): each piece alone, with its fringe, in the middle of a window."""
        own = np.zeros((len(pieces), self.side, self.side), dtype=bool)
        window = np.zeros(own.shape, dtype=np.float32)
        for i, piece in enumerate(pieces):
            (cx, cy), half = piece.centre, self.side / 2
            left, top = int(np.ceil(cx - half)), int(np.ceil(cy - half))
            y, x = piece.y - top, piece.x - left
            inside = (y >= 0) & (x >= 0) & (y < self.side) & (x < self.side)
            own[i, y[inside], x[inside]] = True
            rows = slice(top + self.margin, top + self.margin + self.side)
            columns = slice(left + self.margin, left + self.margin + self.side)
            window[i] = self.images[piece.image, rows, columns]
        reach = 2 * max(1, round(FRINGE * self.scale)) + 1
        near = ndimage.maximum_filter(own, (1, reach, reach))
        window *= own | (near & (window <= self.threshold))
        return self.reader.read(window, views)


def _best(probability: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probability of the likeliest digit: (N,)."""
    best: NDArray[np.float32] = probability[:, :NOT_A_DIGIT].max(1)
    return best


def _mended(
    parts: list[_Piece], probability: NDArray[np.float32], page: _Page
) -> tuple[list[_Piece], NDArray[np.float32]]:
    """Cut and join the pieces in doubt of one image where the result reads better."""
    parts, read = list(parts), list(probability)
    queue = [i for i, p in enumerate(parts) if _doubtful(p, read[i], page.scale)]
    gone: set[int] = set()
    while queue:
        i = queue.pop()
        if i in gone:
            continue
        if mended := _join(i, parts, read, gone, page) or _cut(parts[i], read[i], page):
            new, new_read, used = mended
            gone |= {i, *used}
            for part, reading in zip(new, new_read, strict=True):
                parts.append(part)
                read.append(reading)
                if part.side > LARGEST * page.scale:
                    queue.append(len(parts) - 1)
    kept = [i for i in range(len(parts)) if i not in gone]
    parts, read = _gathered([parts[i] for i in kept], [read[i] for i in kept], page.scale)
    return parts, np.array(read, np.float32).reshape(-1, 11)


def _gathered(
    parts: list[_Piece], read: list[NDArray[np.float32]], scale: float
) -> tuple[list[_Piece], list[NDArray[np.float32]]]:
    """Strokes that read as nothing and lie in the square of a digit belong to it, and leave it what it reads as."""
    parts, read = list(parts), list(read)
    i = 0
    while i < len(parts):
        hosts = [
            j
            for j in range(len(parts))
            if read[i][NOT_A_DIGIT] >= DOUBT > read[j][NOT_A_DIGIT]
            and 2 * len(parts[i].y) <= len(parts[j].y)
            and _adjoin(parts[i], parts[j], JOIN_GAP * scale, FRAGMENTS_SIDE * scale)
        ]
        if hosts:
            host = max(hosts, key=lambda j: len(parts[j].y))
            parts[host] = parts[host].with_(parts[i])
            del parts[i], read[i]
        else:
            i += 1
    return parts, read


def _doubtful(piece: _Piece, reading: NDArray[np.float32], scale: float) -> bool:
    usual = SHORT * scale <= piece.side <= LARGEST * scale
    return not usual or bool(reading[:NOT_A_DIGIT].max() < DOUBT)


_Mended = tuple[list[_Piece], NDArray[np.float32], list[int]]


def _join(
    i: int, parts: list[_Piece], read: list[NDArray[np.float32]], gone: set[int], page: _Page
) -> _Mended | None:
    """Piece i, in doubt, with a neighbour, if the two read as one digit: a broken stroke, or a stray one."""
    near = [
        j
        for j in range(len(parts))
        if j != i
        and j not in gone
        and _adjoin(parts[i], parts[j], JOIN_GAP * page.scale, JOIN_SIDE * page.scale)
    ]
    if not near:
        return None
    both = [parts[i].with_(parts[j]) for j in near]
    reading = page.read(both)
    best = _best(reading)
    k = int(best.argmax())
    if best[k] <= max(DOUBT, float(read[i][:NOT_A_DIGIT].max())):
        return None
    return [both[k]], reading[k : k + 1], [near[k]]


def _cut(piece: _Piece, reading: NDArray[np.float32], page: _Page) -> _Mended | None:
    """The piece in doubt cut along the best straight line, if all parts of a digit's size then read as digits.

    Upright and level lines are tried everywhere, because digits that lie in squares can always be parted so; oblique
    ones where they cross least ink.
    """
    large = piece.side > LARGEST * page.scale
    if not large and reading[NOT_A_DIGIT] < DOUBT:
        return None  # an ambiguous digit
    ink = page.images[piece.image, piece.y + page.margin, piece.x + page.margin]
    least = 2 * SMALLEST * page.scale**2
    straight: list[tuple[float, NDArray[np.bool_]]] = []
    oblique: list[tuple[float, NDArray[np.bool_]]] = []
    for step in range(ANGLES):
        angle = step * np.pi / ANGLES
        along = np.rint(piece.x * np.cos(angle) + piece.y * np.sin(angle)).astype(int)
        along -= along.min()
        crossing = np.bincount(along, ink)
        before = np.cumsum(np.bincount(along))
        for k in np.flatnonzero((before >= least) & (len(along) - before >= least)).tolist():
            crossed = float(min(crossing[k], crossing[k + 1]))
            (oblique if step % (ANGLES // 2) else straight).append((crossed, along <= k))
    cuts = straight + sorted(oblique, key=lambda cut: cut[0])[:OBLIQUE]
    if not cuts:
        return None
    pairs = [
        [_Piece(piece.image, piece.y[side], piece.x[side]) for side in (lower, ~lower)]
        for _, lower in cuts
    ]
    readings = page.read([part for pair in pairs for part in pair], views=1)
    side = np.array([[part.side for part in pair] for pair in pairs]) / page.scale
    best = readings[:, :NOT_A_DIGIT].max(1).reshape(-1, 2)
    best = np.where(side > LARGEST, DOUBT, best)  # a large part will be cut again
    typical = np.exp(-np.abs(side - DIGIT_SIDE) / DIGIT_SIDE)
    worth = (best * typical).prod(1) * CROSSING ** np.array([crossed for crossed, _ in cuts])
    worth[(side > LARGEST).all(1) | (best.min(1) < DOUBT)] = 0
    k = int(worth.argmax())
    if worth[k] <= (0 if large else CERTAIN):
        return None
    return pairs[k], page.read(pairs[k]), []
