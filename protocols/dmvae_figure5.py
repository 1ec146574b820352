"""DM-VAE, Figure 5: does every memory slot stand for one digit, and do they mix without the information loss?

One row per slot: the patch at the mean of its prior, then ten drawn from it. The full model, the one without the
information loss, and both with the corrected objective, which is ours. Below, the same slots, those first that most
steps on test images read.

Cost: nothing beyond Table I and dmvae_objectives, whose runs it shares (three seeds).

No code of the authors is known. Slots are permuted between seeds, and with 15 of them for ten digits some are expected
to be double or dead; the pictures are of the first seed.

Expect rows of one digit each in the full model, and rows that look alike without the information loss: little of the
patches' variance lies between slots there. "Between slots" is that share, and says no more than that slots differ; NMI
and purity say whether they mean digits.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ..core.claims import lower
from ..core.protocol import Claim, Table, metric
from ..core.results import PublishedValue, ResultRow
from ._dmvae import (
    ABLATED,
    CITATION,
    COMMON,
    DATA,
    FULL,
    MULTI_MNIST,
    OBJECTIVES,
    PICTURES,
    tiles_across,
)

DATASET = "Multi-MNIST"


def draw(
    rows: Sequence[ResultRow],
    published: Sequence[PublishedValue],
    artifacts: Mapping[Any, Mapping[str, Any]],
) -> Any:
    """A column per model: slots by their index, and below them by their use."""
    orders = {"Between slots": "by index", "By use": "by use"}
    panels = [
        (f"{label}\n{order}", (label, DATASET, measured, 0), "grid")
        for measured, order in orders.items()
        for label in OBJECTIVES
    ]
    return tiles_across(artifacts, panels, len(OBJECTIVES), title_size=7)


# fmt: off
protocol = Table(
    paper=f"{CITATION}, Figure 5 (no published item: pictures)",
    models=OBJECTIVES,
    datasets={DATASET: MULTI_MNIST},
    metrics={
        "Between slots": metric("memory"),
        "By use":        metric("memory", order="use"),
        "NMI":           metric("slots", quantity="nmi"),
        "Purity":        metric("slots", quantity="purity"),
        "Slots used":    metric("slots", quantity="used"),
    },
    rows=("model",),
    columns=("metric",),
    seeds=3,
    seeds_at={"mini": 3},
    claims=(
        Claim("without the information loss slots are mixed: a smaller NMI with digits", "Figure 5, right",
              lower((ABLATED, DATASET, "NMI"), (FULL, DATASET, "NMI"))),
        Claim("without it slots are mixed: a smaller purity", "Figure 5, right",
              lower((ABLATED, DATASET, "Purity"), (FULL, DATASET, "Purity"))),
        Claim("without it slots draw the same: less variance lies between them", "Figure 5, right",
              lower((ABLATED, DATASET, "Between slots"), (FULL, DATASET, "Between slots"))),
    ),
    deviations=COMMON + DATA + PICTURES,
    draw=draw,
)
# fmt: on
