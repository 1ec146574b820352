"""DooD, ablations: what do guidance, the spline and the sequential prior contribute to the likelihoods?

Tables like that of Figure 4 for DooD without execution guidance (−EG), with a fixed independent prior instead of the
sequential one (−SP), with a neural renderer (−δR, from MNIST alone), and with the affine on the control points as the
paper says (MT). In brackets stands the training set.

Cost at tier paper: 17 models beside that of Figure 4 and five seeds are 85 runs of 500,000 updates of 64 images;
`--dry-run` measures what that comes to here. At tier mini the row of DooD from MNIST is made, at tier demo −EG and −δR
from MNIST too.

The authors' code made −EG and −SP from variant M on MNIST and from variant MT elsewhere, while DooD's own table is of
variant M: beside them belongs DooD-MT of the same source. −EG changes more than its name says. The numbers are of the
authors' files; the paper at hand prints none of them. MT's spread is the sample's, and some of its cells have none.

Expect −EG far below off the diagonal and unsure over seeds, −SP a little below, −δR near −EG from MNIST, below it on
three sets and above it on two; MT a little below M, but for QuickDraw.
"""

from ..core.claims import lower
from ..core.protocol import Claim, Table
from ._dood import (
    CITATION,
    CONFOUND,
    DATASETS,
    DOOD,
    DOOD_MT,
    GUIDANCE,
    LIKELIHOODS,
    LL,
    SOURCES,
    SYNTHETIC,
    ablation_base,
    named,
    off_diagonal,
    pending,
    trained_on,
)

# fmt: off
STROKES = "DooD-MT (synthetic strokes)"
MODELS = {
    named("DooD", "MNIST"): DOOD,
    **{named("DooD-MT", source): DOOD_MT for source in SOURCES},
    STROKES: DOOD_MT,
    **{named("DooD−EG", source): ablation_base(source).with_options(guided=False) for source in SOURCES},
    **{named("DooD−SP", source): ablation_base(source).with_options(prior="independent") for source in SOURCES},
    named("DooD−δR", "MNIST"): DOOD.with_options(renderer="mlp"),
}
METRICS = {"LL": LL}
TRAIN = {**trained_on(MODELS), STROKES: SYNTHETIC}

protocol = Table(
    paper=f"{CITATION}, section 3.1: ablations (numbers of the authors' files)",
    models=MODELS,
    train=TRAIN,
    datasets=DATASETS,
    metrics=METRICS,
    rows=("model",),
    columns=("dataset",),
    seeds=5,
    sizes={
        "demo": ({"model": (named("DooD", "MNIST"), named("DooD−EG", "MNIST"), named("DooD−δR", "MNIST")),
                  "dataset": ("MNIST", "Omniglot")},),
        "mini": ({"model": (named("DooD", "MNIST"),)},),
    },
    pending=pending(MODELS, TRAIN, DATASETS, METRICS),
    claims=(
        Claim("trained on MNIST, guidance raises the likelihood of every other set", "section 3.1: 'Both the explicit "
              "spline decoder and the execution guidance prove to be important'",
              off_diagonal("DooD−EG", "DooD", "MNIST")),
        Claim("trained on MNIST, the spline raises the likelihood of every other set", "section 3.1: as above (AIR's "
              "likelihood apart, all are Laplace)",
              off_diagonal("DooD−δR", "DooD", "MNIST")),
        *(
            Claim(f"trained on {source}, guidance raises the likelihood of every other set (both of variant MT)",
                  "section 3.1: as above", off_diagonal("DooD−EG", "DooD-MT", source))
            for source in SOURCES[1:]
        ),
        Claim("trained on MNIST, the sequential prior raises the likelihood of MNIST", "section 3.2: 'the learnable "
              "sequential prior'",
              lower((named("DooD−SP", "MNIST"), "MNIST", "LL"), (named("DooD", "MNIST"), "MNIST", "LL"))),
    ),
    deviations=LIKELIHOODS + GUIDANCE + CONFOUND,
)
# fmt: on
