"""Average precision of boxes: two rules of the same name. No torch here: a bundle's numbers are made again by them.

metrics/average_precision.py says what the rules are and where they come from.
"""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .progress import track

__all__ = [
    "Detections",
    "average_precision",
    "coco",
    "eleven_points",
    "hits",
    "intersection_over_union",
    "thresholds",
]

Floats = NDArray[np.float64]


def thresholds(iou: str) -> Floats:
    """(T,) intersections over union of `0.5` or `0.5:0.95`. Raises ValueError for anything else."""
    if iou not in ("0.5", "0.5:0.95"):
        raise ValueError(f"iou={iou} is no threshold; expected 0.5 or 0.5:0.95")
    return np.array([0.5]) if iou == "0.5" else np.arange(50, 100, 5) / 100


def average_precision(
    images: list[Detections], interpolation: str, iou: str
) -> tuple[Floats, Floats]:
    """Interpolated precision (T, 11 or 101) and the recall of all predictions (T,)."""
    if interpolation not in ("11-point", "101-point"):
        raise ValueError(
            f"interpolation={interpolation} is no rule; expected 11-point or 101-point"
        )
    rule = eleven_points if interpolation == "11-point" else coco
    return rule(images, thresholds(iou))


@dataclass(frozen=True)
class Detections:
    """One image: predicted boxes (P, 4) with their confidence (P,), true boxes (G, 4); (x0, y0, x1, y1)."""

    box: Floats
    confidence: Floats
    true: Floats


def eleven_points(images: list[Detections], thresholds: Floats) -> tuple[Floats, Floats]:
    """Interpolated precision (T, 11) and the recall of all predictions (T,), by the rule at the top."""
    objects = sum(len(image.true) for image in images)
    confidence = np.concatenate([np.sort(image.confidence)[::-1] for image in images])
    hit = np.concatenate([hits(image, thresholds) for image in track(images, "AP")])  # (P, T)
    order = np.argsort(-confidence, kind="stable")
    hit, confidence = hit[order].cumsum(0), confidence[order]
    # Presences saturate, so many are equal. A point of the curve is a confidence at which one could stop, not a place
    # in a queue of equals, whose order would be that of the images.
    stops = np.flatnonzero(np.append(confidence[1:] != confidence[:-1], len(confidence) > 0))
    hit, taken = hit[stops], stops[:, None] + 1.0
    precision = np.zeros((len(thresholds), 11))
    for point in range(11):
        reached = (
            10 * hit >= point * objects
        )  # in integers: 3 of 10 is less than a floating 0.1 * 3
        best = np.where(reached, hit / taken, 0.0)
        precision[:, point] = best.max(0, initial=0.0)
    recall = hit[-1] / objects if len(hit) else np.zeros(len(thresholds))
    return precision, recall


def hits(image: Detections, thresholds: Floats) -> NDArray[np.bool_]:
    """(P, T): whether each prediction, the most confident first, is a hit at each threshold."""
    hit = np.zeros((len(image.box), len(thresholds)), dtype=bool)
    if not len(image.true):
        return hit
    overlap = intersection_over_union(image.box, image.true)  # (P, G)
    used = np.zeros((len(image.true), len(thresholds)), dtype=bool)
    for rank, prediction in enumerate(np.argsort(-image.confidence, kind="stable")):
        best = int(overlap[prediction].argmax())
        hit[rank] = (overlap[prediction, best] > thresholds) & ~used[best]
        used[best] |= hit[rank]
    return hit


def intersection_over_union(a: Floats, b: Floats) -> Floats:
    """(P, 4) and (G, 4) boxes -> (P, G) in [0, 1]; 0 where both are empty."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    both = (high - low).clip(0).prod(-1)
    area_a, area_b = ((box[:, 2:] - box[:, :2]).prod(-1) for box in (a, b))
    either = area_a[:, None] + area_b[None] - both
    overlap: Floats = np.divide(both, either, out=np.zeros_like(both), where=either > 0)
    return overlap


def coco(images: list[Detections], thresholds: Floats) -> tuple[Floats, Floats]:
    """Interpolated precision (T, 101) and recall (T,) as COCO's code has them; at most 100 predictions an image."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def annotations(boxes: list[Floats]) -> list[dict[str, Any]]:
        found = [
            {
                "image_id": image,
                "category_id": 1,
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "area": (x1 - x0) * (y1 - y0),
                "iscrowd": 0,
            }
            for image, of_image in enumerate(boxes)
            for x0, y0, x1, y1 in of_image.tolist()
        ]
        return [{"id": number, **one} for number, one in enumerate(found, 1)]  # id 0 means no match

    if not any(len(image.box) for image in images):  # COCO's code cannot read an empty list
        return np.zeros((len(thresholds), 101)), np.zeros(len(thresholds))
    described = [{"id": image} for image in range(len(images))]
    categories = [{"id": 1, "name": "object"}]
    true, predicted = COCO(), COCO()
    true.dataset = {
        "images": described,
        "categories": categories,
        "annotations": annotations([image.true for image in images]),
    }
    scores = np.concatenate([image.confidence for image in images]).tolist()
    guesses = annotations([image.box for image in images])
    predicted.dataset = {
        "images": described,
        "categories": categories,
        "annotations": [{**guess, "score": s} for guess, s in zip(guesses, scores, strict=True)],
    }
    with contextlib.redirect_stdout(io.StringIO()):  # it prints how long it took
        true.createIndex()
        predicted.createIndex()
        judge = COCOeval(true, predicted, "bbox")
        judge.params.iouThrs = thresholds
        judge.params.areaRng, judge.params.areaRngLbl = [[0, 1e10]], ["all"]
        judge.params.maxDets = [100]
        judge.evaluate()
        judge.accumulate()
    return judge.eval["precision"][:, :, 0, 0, 0], judge.eval["recall"][:, 0, 0, 0]
