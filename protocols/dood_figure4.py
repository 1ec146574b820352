"""DooD, Figure 4: does a model that draws with strokes carry over to images of another kind?

Log-likelihood by importance sampling with 200 samples, in nats per image: DooD and Difference-AIR, trained on each of
five sets and measured on all of them. In brackets stands the training set. Below, the squared error of
reconstructions, of which our figure shows three in every cell.

Cost at tier paper: two models, five sources and five seeds are 50 runs of 500,000 updates of 64 images, and one more
source for AIR with a Laplace likelihood; 200 particles of 61,980 test images each; `--dry-run` measures what that
comes to here. Tiers demo and mini make the rows that are trained on MNIST; whoever names others gets them.

The authors' code made DooD's numbers with the affine on the image, not on the points; with render parameters that the
recognition network reads off the image for nothing (dood_no_leak takes that away); with three seeds of AIR, and with
one sample instead of 200 for AIR trained on Omniglot, whose likelihood is Gaussian there. Its row is never
comparable.

Expect DooD above AIR off the diagonal, by 1,160 to 3,740 nats from MNIST. On the diagonal the paper claims it too,
and its own numbers do not bear it out on EMNIST. Levels below the ceiling of 9,780 nats follow the pixels' scale,
which a short training cannot bring down at the published rate: at tier mini only the order counts.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ..core.claims import each, lower
from ..core.protocol import Block, Claim, Table
from ..core.results import PublishedValue, ResultRow
from ._dood import (
    AIR,
    CITATION,
    DATASETS,
    LIKELIHOODS,
    LL,
    RECONSTRUCTIONS,
    SOURCES,
    air_of,
    dood_of,
    everywhere_else,
    named,
    off_diagonal,
    pending,
    trained_on,
)
from ._dood_figures import said_of_data, transfer

# fmt: off
LAPLACE = "AIR (Omniglot), Laplace"
MODELS = {
    **{named("DooD", source): dood_of(source) for source in SOURCES},
    **{named("AIR", source): air_of(source) for source in SOURCES},
    LAPLACE: AIR.with_options(likelihood="laplace"),  # ours: the paper says that it fails
}
METRICS = {"LL": LL, "MSE": RECONSTRUCTIONS}
FROM_MNIST: Block = {"model": (named("DooD", "MNIST"), named("AIR", "MNIST"))}
GAUSSIAN = " (AIR's likelihood is Gaussian here: another density)"
EASY, FAR = ("EMNIST", "KMNIST", "QuickDraw"), ("MNIST", "Omniglot")
# fmt: on


def draw(
    rows: Sequence[ResultRow],
    published: Sequence[PublishedValue],
    artifacts: Mapping[Any, Mapping[str, Any]],
) -> Any:
    """Both tables, published above ours; ours with reconstructions in their cells and the images above them."""
    models = ("DooD", "AIR")
    tables = transfer(rows, published, artifacts, protocol, models, SOURCES, "LL", "MSE")
    return said_of_data(tables, rows)


# fmt: off
protocol = Table(
    paper=f"{CITATION}, Figure 4",
    models=MODELS,
    train=trained_on(MODELS),
    datasets=DATASETS,
    metrics=METRICS,
    rows=("metric", "model"),
    columns=("dataset",),
    seeds=5,
    sizes=dict.fromkeys(("demo", "mini"), (FROM_MNIST,)),
    pending=pending(MODELS, DATASETS, METRICS),
    claims=(
        *(
            Claim(f"trained on {source}, DooD has a higher likelihood than AIR on every other set",
                  "section 3.1, Figure 4" + (GAUSSIAN if source == "Omniglot" else ""),
                  off_diagonal("AIR", "DooD", source))
            for source in SOURCES
        ),
        *(
            Claim(f"DooD has a higher likelihood than AIR within {source}",
                  "section 3.1: 'while also performing better within dataset (diagonal cells)'"
                  + {"EMNIST": "; the published 6504.1 and 6549.0 say the contrary",
                     "KMNIST": "; the published 4780.2 and 4772.3 are within their spreads"}.get(source, ""),
                  lower((named("AIR", source), source, "LL"), (named("DooD", source), source, "LL")))
            for source in SOURCES
        ),
        Claim("on every set the DooD that was trained on it is the best",
              "section 3.1: 'the values on the diagonal are the highest in any given column'",
              each({f"{source} on {target}": lower((named("DooD", source), target, "LL"),
                                                   (named("DooD", target), target, "LL"))
                    for target in SOURCES for source in SOURCES if source != target})),
        Claim("DooD carries over worse from MNIST and Omniglot than from the other sets",
              "section 3.1: 'transfer learning performance is the worst when the source dataset is MNIST or Omniglot'",
              each({f"{far} and {near} on {target}": lower((named("DooD", far), target, "LL"),
                                                           (named("DooD", near), target, "LL"))
                    for target in SOURCES for far in FAR for near in EASY if target not in (far, near)})),
        Claim("trained on MNIST, DooD's reconstructions of every other set are nearer than AIR's",
              "section 3.1: 'high quality despite transferring out of distribution, unlike reconstructions from AIR'",
              everywhere_else(named("DooD", "MNIST"), named("AIR", "MNIST"), "MNIST", "MSE")),
    ),
    deviations=LIKELIHOODS,
    draw=draw,
)
# fmt: on
