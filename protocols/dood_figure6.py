"""DooD, Figure 6: are samples of DooD like what it was trained on?

Fréchet distance between 1,500 samples and as many training images, of features of three extractors, and the samples.
Every model is measured on the set that it was trained on.

Cost: DooD and AIR are those of Figure 4. "FID" and "FID (pool3)" need Inception's weights, which nobody may pass on
here: they are made at tier paper, or when they are named. At tiers demo and mini models trained on MNIST.

The authors' code takes as features the 1,000 softmax probabilities of Inception-v3, so that values stay below 2; and
it turns real digits and letters by up to 30 degrees before they are compared. Samples are tempered. GNS is not
implemented yet, and how its column and "True" were made is not in the code.

Expect 0.05 to 0.14 of that distance, 0.025 between real images, and AIR, which has no sequential prior, far worse.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ..core.claims import at_most, lower
from ..core.protocol import Block, Claim, Table, TierName
from ..core.results import PublishedValue, ResultRow
from ._dood import (
    AFFINE,
    AIR,
    CITATION,
    DATA,
    DATASETS,
    DOOD,
    FID,
    FID_DOMAIN,
    FID_POOL3,
    FRECHET,
    LEAK,
    NOT_OURS,
    ONE_SHOT_AIR,
    SAMPLES,
    SILENCES,
    SOURCES,
    TEMPERING,
    pending,
)
from ._dood_figures import columns_of_tiles, said_of_data

# fmt: off
MODELS = {"DooD": DOOD, "AIR": AIR, "GNS": NOT_OURS["GNS"]}
METRICS = {
    "FID":                         FID,
    "FID of real images":          FID.with_options(of="real"),
    "FID (domain)":                FID_DOMAIN,
    "FID of real images (domain)": FID_DOMAIN.with_options(of="real"),
    "FID (pool3)":                 FID_POOL3,
    "Samples":                     SAMPLES,
}
OWN = "FID (domain)", "FID of real images (domain)", "Samples"
SIZES: dict[TierName, tuple[Block, ...]] = {
    "demo":  ({"model": ("DooD", "AIR"), "dataset": ("MNIST",), "metric": OWN},),
    "mini":  ({"model": ("DooD", "AIR"), "dataset": ("MNIST",), "metric": OWN},),
    "paper": ({"model": ("DooD", "AIR")}, {"model": ("GNS",), "dataset": ("Omniglot",), "metric": ("FID",)}),
}
# fmt: on


def draw(
    rows: Sequence[ResultRow],
    published: Sequence[PublishedValue],
    artifacts: Mapping[Any, Mapping[str, Any]],
) -> Any:
    """Samples of DooD of each set with the distance that was published and ours; then AIR's, and real images."""
    theirs = {value.key: value for value in published}
    ours: dict[tuple[str, ...], list[str]] = {}  # one per seed
    for row in rows:
        if row.status == "ok" and row.value is not None:
            ours.setdefault(row.key[:3], []).append(f"{row.value:.3g}")
    made = {row.key[:2] for row in rows}
    panels = []
    for label, source, array in (
        *(("DooD", source, "samples") for source in SOURCES),
        ("AIR", "MNIST", "samples"),
        ("DooD", "MNIST", "data"),
        ("DooD", "Omniglot", "data"),
    ):
        if made and (label, source) not in made:
            continue
        kind = "FID" if array == "samples" else "FID of real images"
        said = []
        if value := theirs.get((label, source, kind)):
            said.append(f"published {value.printed} (Inception)")
        for named, features in ((kind, "Inception"), (f"{kind} (domain)", "domain")):
            if mine := ours.get((label, source, named)):
                said.append(f"ours {', '.join(mine)} ({features})")
        shown = label if array == "samples" else "real"
        title = "\n".join([f"{source}, {shown}", *(said or ["no FID yet"])])
        panels.append((title, (label, source, "Samples", 0), array))
    return said_of_data(
        columns_of_tiles(rows, artifacts, panels, across=4, columns=3, first=False), rows
    )


# fmt: off
protocol = Table(
    paper=f"{CITATION}, Figure 6",
    models=MODELS,
    datasets=DATASETS,
    metrics=METRICS,
    rows=("dataset", "model"),
    columns=("metric",),
    seeds=5,
    sizes=SIZES,
    pending=pending(MODELS, DATASETS, METRICS),
    claims=(
        *(
            Claim(f"DooD's samples of {source} are nearer to it than AIR's",
                  "section 3.2: for AIR 'it is impossible' to 'generate realistic unconditional samples'",
                  lower(("DooD", source, "FID (domain)"), ("AIR", source, "FID (domain)")))
            for source in SOURCES
        ),
        Claim("DooD's samples of Omniglot are nearer than GNS's published 0.133",
              "section 3.2: 'outperforms GNS (0.051 versus 0.133)'", at_most(("DooD", "Omniglot", "FID"), 0.133)),
        Claim("real images of Omniglot are nearer to one another than samples are", "Figure 6: .025 and .051",
              lower(("DooD", "Omniglot", "FID of real images"), ("DooD", "Omniglot", "FID"))),
        Claim("real images of MNIST are nearer to one another than samples are (domain features)", "ours",
              lower(("DooD", "MNIST", "FID of real images (domain)"), ("DooD", "MNIST", "FID (domain)"))),
    ),
    deviations=AFFINE + LEAK + TEMPERING + FRECHET + ONE_SHOT_AIR[1:3] + SILENCES + DATA,
    draw=draw,
)
# fmt: on
