"""DM-VAE, Figure 6: do the slots of a memory of 50 become parts of characters as training goes on?

The first ten slots early in the training and later (20,000 and 200,000 of 633,000 steps in the paper), one row each:
the patch at the mean of its prior, then ten drawn from it.

Cost: nothing beyond Table I, whose runs it shares (three seeds; one at tier mini): weights are kept along every
training. Characters are a stand-in, see Table I; "CASIA-CHAR (own files)" is made for whoever names it.

No code of the authors is known. Which of the rows are labelled as radicals in the figure is lost in the copy at hand.

Expect strokes and radicals in the later rows, clearer than in the early ones; q(type) is surer of its slot later (a
smaller mean entropy), and slots say more of which part is read (NMI).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ..core.claims import lower
from ..core.protocol import Claim, Table, after, metric, through_training
from ..core.results import PublishedValue, ResultRow
from ._dmvae import (
    CASIA,
    CHARACTER_DATA,
    CHARACTERS,
    CITATION,
    COMMON,
    CORRECTED_50,
    DMVAE_50,
    OWN_FILES,
    PICTURES,
    SNAPSHOTS,
    tiles_across,
)

DATASET = "CASIA-CHAR"
EARLY, LATE = 0.05, 0.3
MODELS = {"DM-VAE": DMVAE_50, "DM-VAE (corrected)": CORRECTED_50}


def draw(
    rows: Sequence[ResultRow],
    published: Sequence[PublishedValue],
    artifacts: Mapping[Any, Mapping[str, Any]],
) -> Any:
    """Early, late and, beyond the paper's two, at the end, beside one another, for every dataset that has images."""
    datasets = list(dict.fromkeys(row.dataset for row in rows)) or [DATASET]
    panels = [
        (
            f"{label}\nafter {'the' if share == 1 else f'{share:.0%} of the'} training",
            (after(label, share), dataset, "Slots", 0),
            "grid",
        )
        for dataset in datasets
        for label in MODELS
        for share in (EARLY, LATE, 1.0)
    ]
    return tiles_across(artifacts, panels, 3)


# fmt: off
protocol = Table(
    paper=f"{CITATION}, Figure 6 (no published item: pictures)",
    models=through_training(MODELS, (EARLY, LATE)),
    datasets={DATASET: CHARACTERS, OWN_FILES: CASIA},
    metrics={
        "Slots":      metric("memory", rows=10),
        "mean H(q)":  metric("slots", quantity="conditional_entropy"),
        "H(q mean)":  metric("slots", quantity="usage_entropy"),
        "Slots used": metric("slots", quantity="used"),
        "Part NMI":   metric("slots", quantity="nmi"),
    },
    rows=("dataset", "model"),
    columns=("metric",),
    seeds=3,
    sizes={tier: ({"dataset": (DATASET,)},) for tier in ("demo", "mini", "paper")},
    claims=tuple(
        claim
        for label in MODELS
        for claim in (
            Claim(f"{label}: q(type) is surer later: a smaller mean entropy", "section V.C, Figure 6",
                  lower((after(label, LATE), DATASET, "mean H(q)"), (after(label, EARLY), DATASET, "mean H(q)"))),
            Claim(f"{label}: slots say more of the part later", "section V.C, Figure 6",
                  lower((after(label, EARLY), DATASET, "Part NMI"), (after(label, LATE), DATASET, "Part NMI"))),
        )
    ),
    deviations=SNAPSHOTS + COMMON + CHARACTER_DATA + PICTURES,
    draw=draw,
)
# fmt: on
