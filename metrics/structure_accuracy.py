"""S-Acc: the fraction of a model's samples whose objects obey the rule of the scenes it was trained on.

Jiang & Ahn, "Generative Neurosymbolic Machines", NeurIPS 2020: 250 samples per model, each called right or wrong by
hand for its structure alone, whatever its quality; an unrecognisable digit makes it wrong. Here a judge decides. That
of digits finds the objects (_judge_finder), reads them (_judge_reader) and applies the written rule (_judge_rules);
that of the Arrow room (_judge_arrow) parses the picture and applies the room's law. Before anything they say is
believed, see what they make of images whose verdict is known:

    python -m reprise.metrics.structure_accuracy --validate mnist10
    python -m reprise.metrics.structure_accuracy --validate arrow_room
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray

from ..core.dataset import Dataset, Split
from ..core.errors import UsageError
from ..core.metric import Measurement, Metric
from ..core.progress import Watcher, track, watched_by
from . import _judge_arrow
from ._evaluation import as_bytes
from ._judge_arrow import ArrowJudge
from ._judge_arrow_rules import Ruling
from ._judge_arrow_scenes import Room
from ._judge_finder import find
from ._judge_reader import Glyphs, Reader, reader_for
from ._judge_rules import CHARITABLE, Limits, Rule, displacement

__all__ = ["StructureAccuracy"]

# Of the digits' judge (the Arrow judge has its own).
VERSION = 4  # raise it when the same image begins to get another verdict, whichever part changed
MNIST10_RULE = (
    2  # raise it, and `StructureAccuracy.raised`, when only images of MNIST-10 get another one
)
CHUNK = 50  # samples per call of the model, as the authors drew their 250
STORED = 250  # samples kept for the eye, the published number
TOLERANCES = (3.0, 4.0, 6.0, 8.0, math.inf)
THRESHOLDS = (0.15, 0.25, 0.35)


class Patches(Protocol):
    """Single digits, centred by their boxes. patch: (G, P, P) uint8. label: (G,)."""

    @property
    def patch(self) -> NDArray[np.uint8]: ...

    @property
    def label(self) -> NDArray[np.int64]: ...


class DigitScenes(Protocol):
    """What the judge asks of a data set: a rule, a square canvas, and the digits its scenes are made of."""

    @property
    def rule(self) -> Rule: ...

    @property
    def canvas(self) -> int: ...

    def glyphs(self, name: Split, /) -> Patches: ...


@dataclass(frozen=True)
class Judge:
    """Tells right scenes from wrong ones. rule: what is right. canvas: side of the images in pixels."""

    reader: Reader
    rule: Rule
    canvas: int
    limits: Limits = CHARITABLE

    @classmethod
    def of(cls, data: DigitScenes, rule: Rule | None = None, limits: Limits = CHARITABLE) -> Judge:
        """The judge of these scenes, trained on their training digits on first use (45 minutes for MNIST), cached."""
        glyphs = data.glyphs("train")
        reader = reader_for(Glyphs(glyphs.patch, glyphs.label), data.canvas)
        return cls(reader, rule or data.rule, data.canvas, limits)

    @property
    def dialect(self) -> str:
        """Which judge it is, beyond what `StructureAccuracy.dialect` says."""
        rule = "" if self.rule == "mnist4" else f"mnist10_rule=v{MNIST10_RULE} "
        return f"{rule}judge_weights={self.reader.digest}"

    def displacements(
        self, images: NDArray[np.uint8], threshold: float = 0.25
    ) -> NDArray[np.float64]:
        """How far the digits of each image (N, 1, H, W) are from where the rule wants them: (N,).

        In pixels of a 128-pixel canvas; infinite where no reading of the image obeys the rule.
        """
        expected = (1, self.canvas, self.canvas)
        if images.dtype != np.uint8 or images.shape[1:] != expected:
            raise ValueError(f"expected uint8 images (N, {expected}); got {images.dtype} {images.shape}")  # fmt: skip
        found = find(images[:, 0], self.reader, threshold)
        return np.array(
            [displacement(objects, self.rule, self.canvas, self.limits) for objects in found]
        )

    def verdicts(self, images: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Which images (N, 1, H, W) are right, at the default tolerance and threshold: (N,)."""
        right: NDArray[np.bool_] = self.displacements(images) <= StructureAccuracy.tolerance
        return right


@dataclass(frozen=True)
class StructureAccuracy(Metric):
    """Fraction of samples that obey the rule, with its binomial standard error.

    images: samples drawn; 250 as published, 10_000 for precision. tolerance: how far digits that should coincide (once
    mirrored or shifted) may be apart, in pixels of a 128-pixel canvas; people see no less. threshold: brightness of
    ink. rule: "data" for the data set's own. plausible, against_none: what a digit can be read as, in favour of the
    rule (`_judge_rules.Limits`); 0.5 and 1 take each digit for what it most likely is.

    Arrays: `verdict` (N,) bool; `displacement` (N,); `interval` (2,), Wilson, 95 %; `curve` (3, 5), the fraction at
    every `curve_threshold` and `curve_tolerance`; `samples`, the first 250, uint8 (250, 1, H, W).

    In the Arrow room tolerance, threshold and limits mean nothing and rule must be "data". Arrays there: `verdict`,
    `interval`, `samples` (250, 3, H, W), `law` (N,), which law of `_judge_arrow_rules.LAWS` was broken first (0: none),
    and `angle` (N,), degrees between the arrow's heading and the odd one out, NaN where there is no telling.
    """

    images: int = 250
    tolerance: float = 6.0
    threshold: float = 0.25
    rule: Literal["data", "mnist4", "mnist10", "mnist4_10"] = "data"
    plausible: float = 0.003
    against_none: float = 0.05

    version: ClassVar = VERSION  # what another judge said is another number
    # until then the pairs of digits could stand on either diagonal
    raised: ClassVar = {"mnist10": 5, "mnist4_10": 5, "digits10": 5, "digits4_10": 5}
    better: ClassVar = "higher"
    drawn: ClassVar = True
    reduction: ClassVar = "fraction(verdict)"
    learns: ClassVar = ("mnist10_rule", "arrow_judge", "judge_weights")
    tiers: ClassVar = {"demo": {"images": 100}}

    def __post_init__(self) -> None:
        if self.images < 1:
            raise UsageError(f"metric.images={self.images} is too few; expected at least 1")
        if not self.tolerance > 0:
            raise UsageError(f"metric.tolerance={self.tolerance} must be > 0 pixels")
        if not 0 < self.threshold < 1:
            raise UsageError(f"metric.threshold={self.threshold} must lie between 0 and 1")
        if not 0 <= self.plausible <= 1:
            raise UsageError(f"metric.plausible={self.plausible} must lie between 0 and 1")
        if not 0 <= self.against_none < math.inf:
            raise UsageError(f"metric.against_none={self.against_none} must be >= 0")

    @property
    def limits(self) -> Limits:
        """What a digit can be read as."""
        return Limits(self.plausible, self.against_none)

    @property
    def dialect(self) -> str:
        """The judge's version and what it was asked; its weights' digest follows when it has been trained."""
        plausible = "" if self.plausible == 0.003 else f" plausible={self.plausible:g}"
        against = "" if self.against_none == 0.05 else f" against_none={self.against_none:g}"
        return (
            f"judge=v{VERSION} rule={self.rule} tolerance={self.tolerance:g} threshold={self.threshold:g}"
            f"{plausible}{against}"
        )

    @torch.no_grad()
    def __call__(self, model: Any, data: Dataset) -> Measurement:
        """Draw samples in chunks of 50, round them to 8 bits and judge them."""
        if _is_room(data):
            return self._of_rooms(model, cast(Room, data))
        rule = None if self.rule == "data" else self.rule
        judge = Judge.of(_digit_scenes(data), rule, self.limits)
        thresholds = sorted({*THRESHOLDS, self.threshold})
        samples: list[NDArray[np.uint8]] = []
        far: list[NDArray[np.float64]] = []
        for chunk in self._samples(model):
            if sum(map(len, samples)) < STORED:
                samples.append(chunk)
            far.append(np.stack([judge.displacements(chunk, t) for t in thresholds]))
        distance = np.concatenate(far, axis=1)  # (thresholds, N)
        tolerances = np.array(sorted({*TOLERANCES, self.tolerance}))
        # an infinite displacement is no reading at all, wrong even where every distance is tolerated
        right = np.isfinite(distance)[:, None] & (distance[:, None] <= tolerances[:, None])
        row = thresholds.index(self.threshold)
        verdict = right[row, tolerances.tolist().index(self.tolerance)]
        value = float(verdict.mean())
        return Measurement(
            value=value,
            stderr=math.sqrt(value * (1 - value) / self.images),
            n=self.images,
            arrays={
                "verdict": verdict,
                "displacement": distance[row],
                "interval": np.array(wilson(int(verdict.sum()), self.images)),
                "curve": right.mean(-1),
                "curve_threshold": np.array(thresholds),
                "curve_tolerance": tolerances,
                "samples": np.concatenate(samples)[:STORED],
            },
            dialect=judge.dialect,
        )

    def _samples(self, model: Any) -> Iterator[NDArray[np.uint8]]:
        """Samples in chunks (N, C, H, W) of at most 50."""
        for start in track(range(0, self.images, CHUNK), "S-Acc"):
            drawn = model.sample(min(CHUNK, self.images - start))
            yield as_bytes(drawn, f"a sample of {type(model).__name__}")

    def _of_rooms(self, model: Any, room: Room) -> Measurement:
        if self.rule != "data":
            raise UsageError(
                f"metric.rule={self.rule} is a rule of digits; the Arrow room has its own, 'data'"
            )
        judge = ArrowJudge.of(room)
        samples: list[NDArray[np.uint8]] = []
        rulings: list[Ruling] = []
        for chunk in self._samples(model):
            if sum(map(len, samples)) < STORED:
                samples.append(chunk)
            rulings += judge.rulings(chunk)
        law = np.array([ruling.law for ruling in rulings])
        verdict = law == 0
        value = float(verdict.mean())
        return Measurement(
            value=value,
            stderr=math.sqrt(value * (1 - value) / self.images),
            n=self.images,
            arrays={
                "verdict": verdict,
                "law": law,
                "angle": np.array([ruling.angle for ruling in rulings]),
                "interval": np.array(wilson(int(verdict.sum()), self.images)),
                "samples": np.concatenate(samples)[:STORED],
            },
            dialect=f"arrow_judge=v{_judge_arrow.VERSION} judge_weights={judge.parser.digest}",
        )


def _is_room(data: Dataset) -> bool:
    return all(hasattr(data, name) for name in ("canvas", "annotated", "scene", "draw", "project"))


def _digit_scenes(data: Dataset) -> DigitScenes:
    if not all(hasattr(data, name) for name in ("rule", "canvas", "glyphs")):
        raise UsageError(
            f"S-Acc has no judge for {data.info.name!r}; it judges scenes of digits (dataset `scenes`) "
            "and the Arrow room (dataset `arrow_room`)"
        )
    return cast(DigitScenes, data)


def wilson(successes: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a fraction (Wilson 1927)."""
    z = 1.959963984540054
    share, squared = successes / n, z * z / n
    middle = (share + squared / 2) / (1 + squared)
    half = z / (1 + squared) * math.sqrt(share * (1 - share) / n + squared / (4 * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def main(arguments: list[str] | None = None) -> int:
    """Print what the judge makes of images whose verdict is known; 1 if it misses a requirement."""
    import argparse

    from ..core import spec
    from ._judge_arrow_validation import sheet
    from ._judge_arrow_validation import validate as validate_rooms
    from ._judge_validation import table, validate

    prog = "python -m reprise.metrics.structure_accuracy"
    parser = argparse.ArgumentParser(prog=prog, allow_abbrev=False)
    kinds = ("mnist4", "mnist10", "mnist4_10", "arrow_room")
    parser.add_argument("--validate", required=True, choices=kinds)
    parser.add_argument("--source", choices=("mnist", "digits"), help="of digits (default mnist)")
    parser.add_argument(
        "--canvas", type=int, choices=(32, 64, 128), help="of the Arrow room (default 128)"
    )
    parser.add_argument(
        "--images", type=int, help="per test (default 2000; 200 in the Arrow room, which are drawn)"
    )
    parser.add_argument(
        "--split", default="test", choices=("valid", "test"), help="limits are chosen on valid"
    )
    parser.add_argument("--picture", metavar="FILE", help="of what is judged wrongly (Arrow room)")
    for name, limit in CHARITABLE._asdict().items():
        what = f"of what a digit can be read as (default {limit:g})"
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, metavar="X", help=what)
    parser.add_argument("--only", default="", metavar="TEXT", help="tests whose name contains it")
    chosen = parser.parse_args(arguments)
    if chosen.validate == "arrow_room":
        if chosen.source or chosen.plausible is not None or chosen.against_none is not None:
            parser.error("--source, --plausible and --against-none are for digits")
        data = spec.build(spec.dataset("arrow_room", canvas=chosen.canvas or 128))
        with watched_by(_printer()):
            arrow = ArrowJudge.of(data)
            n = chosen.images or 200
            rows = validate_rooms(arrow.verdicts, data, n, chosen.split, chosen.only)
        if chosen.picture:
            sheet(rows).save(chosen.picture, optimize=True)
        print(f"{data.info.name}, judge v{_judge_arrow.VERSION}, weights {arrow.parser.digest}")
    else:
        if chosen.canvas or chosen.picture:
            parser.error("--canvas and --picture are for the Arrow room")
        source, images = chosen.source or "mnist", chosen.images or 2000
        canvas = 128 if source == "mnist" else 64
        data = spec.build(
            spec.dataset(
                "scenes",
                rule=chosen.validate,
                source=source,
                canvas=canvas,
                **{chosen.split: images},
            )
        )
        asked = {name: getattr(chosen, name) for name in Limits._fields}
        limits = CHARITABLE._replace(**{k: v for k, v in asked.items() if v is not None})
        judge = Judge.of(data, limits=limits)
        rows = validate(judge.verdicts, data, images, chosen.split, chosen.only)
        read = "" if limits == CHARITABLE else f", {limits}"
        print(f"{data.info.name}, judge=v{VERSION} {judge.dialect}{read}")
    print(table(rows))
    return 0 if all(row.holds for row in rows) else 1


def _printer() -> Watcher:
    """Says every half minute how far the work is, and how long it will take, on standard error."""
    began: dict[str, tuple[float, int]] = {}
    said = 0.0

    def watch(what: str, done: int, total: int) -> None:
        nonlocal said
        now = time.monotonic()
        start, first = began.setdefault(what, (now, done))
        if now - said > 30 and done > first:
            said = now
            left = (now - start) / (done - first) * (total - done)
            print(f"{what}: {done} of {total}, about {left / 60:.1f} min left", file=sys.stderr)

    return watch


if __name__ == "__main__":
    raise SystemExit(main())
