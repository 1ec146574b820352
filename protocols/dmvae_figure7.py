"""DM-VAE, Figure 7: does the memory make the model read characters part by part, where AIR takes them whole?

Each line: the character with its true parts outlined, the character, what is painted after each step with the windows
so far and the slot of the last step, and the whole. Beside it the same characters by AIR.

Cost: nothing beyond Table I, whose runs it shares (three seeds; one at tier mini). Characters are a stand-in, see
Table I; "CASIA-CHAR (own files)", whose true parts nobody has, is made for whoever names it.

No code of the authors is known; the correct parses in the figure's left column are the authors', by hand.

Expect DM-VAE's windows on parts, apart from one another, and AIR's to overlap and to cover more of the image, the first
step painting most of the character and the others refining it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ..core.claims import lower
from ..core.protocol import Claim, Table, metric
from ..core.results import PublishedValue, ResultRow
from ._dmvae import (
    AIR,
    BASELINES,
    CASIA,
    CHARACTER_DATA,
    CHARACTERS,
    CITATION,
    COMMON,
    CORRECTED_50,
    DMVAE_50,
    OWN_FILES,
    PICTURES,
)

DATASET = "CASIA-CHAR"
# fmt: off
MODELS = {
    "DM-VAE":             DMVAE_50,
    "DM-VAE (corrected)": CORRECTED_50,
    "AIR":                AIR,
}
# fmt: on


def draw(
    rows: Sequence[ResultRow],
    published: Sequence[PublishedValue],
    artifacts: Mapping[Any, Mapping[str, Any]],
) -> Any:
    """A panel per model and dataset. Columns: true parts, image, the steps with their slots below, the whole."""
    from matplotlib.figure import Figure

    keys = [
        (label, dataset, "Parse", 0)
        for dataset in dict.fromkeys(row.dataset for row in rows)
        for label in MODELS
    ]
    parses = {key: artifacts[key] for key in keys if "grid" in artifacts.get(key, {})}
    if not parses:
        return Figure(figsize=(7.4, 1))
    lines = max(len(parse["grid"]) for parse in parses.values())
    columns = max(parse["grid"].shape[1] for parse in parses.values())
    across = 7.4 / len(parses)
    figure = Figure(figsize=(7.6, lines * (across / columns + 0.16) + 0.5), layout="constrained")
    for panel, (key, parse) in zip(
        figure.subfigures(1, len(parses), squeeze=False)[0], parses.items(), strict=True
    ):
        panel.suptitle(key[0] if key[1] == DATASET else f"{key[0]}, {key[1]}", fontsize=9)
        axes = panel.subplots(lines, columns, squeeze=False)
        for axis in axes.flat:
            axis.set_axis_off()
        for line, (images, slots) in enumerate(zip(parse["grid"], parse["slot"], strict=True)):
            for column, image in enumerate(images):
                axis = axes[line, column]
                axis.imshow(image.transpose(1, 2, 0), interpolation="antialiased")
                if line == 0:
                    last = len(images) - 1
                    named = {0: "parts", 1: "image", last: "whole"}.get(
                        column, f"step {column - 1}"
                    )
                    axis.set_title(named, fontsize=6, pad=2)
                if 2 <= column < len(images) - 1 and slots[column - 2] >= 0:
                    axis.text(
                        0.5, -0.02, f"slot {slots[column - 2]}", fontsize=5, ha="center", va="top",
                        transform=axis.transAxes,
                    )  # fmt: skip
    return figure


# fmt: off
protocol = Table(
    paper=f"{CITATION}, Figure 7 (no published item: pictures)",
    models=MODELS,
    datasets={DATASET: CHARACTERS, OWN_FILES: CASIA},
    metrics={
        "Parse":       metric("parsing"),
        "Overlap":     metric("windows", quantity="overlap"),
        "Area":        metric("windows", quantity="area"),
        "Steps":       metric("windows", quantity="steps"),
        "First step":  metric("windows", quantity="first"),
        "Part count":  metric("count_accuracy"),
        "Part NMI":    metric("slots", quantity="nmi"),
        "k-means NMI": metric("slots", quantity="nmi", groups="k-means", clusters=50),
        "ARI":         metric("foreground_ari"),
    },
    rows=("dataset", "model"),
    columns=("metric",),
    seeds=3,
        sizes={tier: ({"dataset": (DATASET,)},) for tier in ("demo", "mini", "paper")},
    claims=tuple(
        claim
        for label in ("DM-VAE", "DM-VAE (corrected)")
        for claim in (
            Claim(f"AIR's windows overlap more than those of {label}", "section V.C, Figure 7",
                  lower((label, DATASET, "Overlap"), ("AIR", DATASET, "Overlap"))),
            Claim(f"AIR's windows cover more of the image than those of {label}", "section V.C, Figure 7",
                  lower((label, DATASET, "Area"), ("AIR", DATASET, "Area"))),
            Claim(f"AIR paints more of the character in its first step than {label}", "section V.C, Figure 7",
                  lower((label, DATASET, "First step"), ("AIR", DATASET, "First step"))),
            Claim(f"the slots of {label} say more of the part than clusters of AIR's z_what", "section V.C",
                  lower(("AIR", DATASET, "k-means NMI"), (label, DATASET, "Part NMI"))),
        )
    ),
    deviations=COMMON + BASELINES + CHARACTER_DATA + PICTURES,
    draw=draw,
)
# fmt: on
