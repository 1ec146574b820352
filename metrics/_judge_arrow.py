"""The Arrow judge: parses images of the Arrow room (_judge_arrow_parser) and applies its law (_judge_arrow_rules)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ._judge_arrow_parser import Parser, parser_for
from ._judge_arrow_rules import SOMETHING, Ruling, ruling
from ._judge_arrow_scenes import Room

VERSION = 2  # of the judge: raise it when the same image begins to get another verdict, whichever part changed


@dataclass(frozen=True)
class ArrowJudge:
    """Tells lawful scenes from others. canvas: side of the images in pixels."""

    parser: Parser
    canvas: int

    @classmethod
    def of(cls, room: Room) -> ArrowJudge:
        """The judge of this canvas: trained on renders whose truth is known on first use, cached."""
        return cls(parser_for(room), room.canvas)

    def rulings(self, images: NDArray[np.uint8]) -> list[Ruling]:
        """What is wrong with each image (N, 3, H, W), if anything."""
        expected = (3, self.canvas, self.canvas)
        if images.dtype != np.uint8 or images.shape[1:] != expected:
            raise ValueError(f"expected uint8 images (N, {expected}); got {images.dtype} {images.shape}")  # fmt: skip
        return [ruling(parsed) for parsed in self.parser.parse(images, SOMETHING)]

    def verdicts(self, images: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Which images (N, 3, H, W) are right: (N,)."""
        return np.array([found.law == 0 for found in self.rulings(images)], dtype=bool)
