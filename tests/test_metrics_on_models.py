"""Every metric measures every model of the house, or says which capability the model lacks."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from reprise.core.dataset import Dataset
from reprise.core.errors import NothingToMeasure
from reprise.core.metric import Measurement, Metric
from reprise.core.model import GenerativeModel
from reprise.core.randomness import seeded
from reprise.core.reductions import Reduced, reduced
from reprise.core.run import Run
from reprise.core.spec import Spec, build, metric, model, names
from reprise.data.multimnist import MultiMNIST
from reprise.data.scenes import Scenes

from .drawers import Bars, Drawer, Runs

DATA = Scenes("mnist4_10", source="digits", canvas=64, train=40, valid=4, test=12)
MODELS = [
    model("gnm"), model("gnm", presence="relaxed"), model("vae"), model("convdraw", draw_steps=2), model("ppca"),
    model("genesis"),
]  # fmt: skip
TINY = [
    metric("average_precision", images=3), metric("decompositions", images=2, shown=3), metric("detections", images=2),
    metric("matched_objects", images=3), metric("what_classification", vectors=20, images=3, epochs=1, within=1000.0),
    metric("discriminator_steps", pool=8, held_out=4, cap=2, every=1, batch=4, repeats=1),
    metric("log_marginal", particles=2, images=2), metric("parameters"), metric("presence", count="right", images=3),
    metric("reconstructions", images=2), metric("resampling", rows=1, draws=2), metric("samples", images=2),
    metric("traversals", images=2, steps=3),
    *(metric("likelihood_scale", images=5, shows=what) for what in ("black", "mean", "itself")),
]  # fmt: skip

READERS = [
    model("air"), model("air", difference=True, gradient="concrete"), model("dmvae"),
    model("dmvae", kl_type="relaxed", memory=4),
]  # fmt: skip
DIGITS = MultiMNIST(source="digits", per_count=20, valid=3, test=12)
TINY_OF_READERS = [
    metric("nll", images=4), metric("nll", estimator="iwae", particles=12, images=4), metric("nll", count=1),
    metric("relaxation_gap", draws=2), metric("count_accuracy"), metric("count_accuracy", presence="mode"),
    metric("slots"), metric("slots", quantity="purity"), metric("slots", quantity="used"),
    metric("slots", quantity="mutual_information"), metric("slots", groups="k-means", clusters=3),
    metric("foreground_ari"), metric("attended_reconstructions", images=12), metric("memory"),
    metric("memory", order="use"), metric("parsing", images=3),
    *(metric("windows", quantity=quantity) for quantity in ("overlap", "area", "steps", "first")),
    metric("average_precision", iou="0.5", interpolation="101-point"),
]  # fmt: skip

TINY_OF_DRAWERS = [
    metric("completions"), metric("drawings", images=3), metric("drawings", best_of=2), metric("exemplars"),
    metric("linear_probe"), metric("part_counts"), metric("part_counts", quantity="at_cap"),
    metric("fid", images=20), metric("fid", images=20, of="real"),
    metric("silhouette", clusters=3, vectors=60, shown=20), metric("silhouette", clusters=3, vectors=60, dropout=True),
]  # fmt: skip
TINY_OF_RUNS = [
    metric("modified_hausdorff"), metric("one_shot", parses=1, steps=1), metric("one_shot", way="two"),
]  # fmt: skip


def made(spec: Spec) -> GenerativeModel[Any]:
    run = Run(
        spec,
        Spec("dataset", "scenes", (("canvas", 64), ("rule", "mnist4_10"), ("source", "digits"))),
    )
    return run.build_model().eval()


def measure(how: Metric, it: Any, data: Dataset = DATA) -> Measurement:
    with seeded(0), torch.no_grad():
        return how(it, data)


def check_that_it_follows(how: Metric, found: Measurement) -> None:
    """The number is what the metric's reduction makes of the arrays that are stored, to the last bit."""
    if how.reduction:
        dialect = f"{how.dialect} {found.dialect}"
        number = Reduced(found.value, found.stderr, found.n, found.censored)
        assert reduced(how.reduction, found.arrays, dialect) == number


def test_all_metrics_are_tried_here() -> None:
    elsewhere = {"structure_accuracy", "training_loss"}
    tried = (*TINY, *TINY_OF_READERS, *TINY_OF_DRAWERS, *TINY_OF_RUNS)
    assert {spec.name for spec in tried} == names("metric").keys() - elsewhere


@pytest.mark.parametrize("spec", MODELS, ids=str)
@pytest.mark.parametrize("what", TINY, ids=lambda spec: spec.name)
def test_a_metric_measures_a_model_or_the_model_lacks_a_capability(what: Spec, spec: Spec) -> None:
    how, it = build(what), made(spec)
    if not isinstance(it, how.requires or GenerativeModel):
        assert spec.name != "gnm" or what.name == "decompositions"
        return
    try:
        found = measure(how, it)
    except NothingToMeasure:  # fresh weights may see nothing; of PPCA sigma is learnt
        if what.name == "likelihood_scale":
            assert spec.name == "ppca"
            return
        assert what.name in ("matched_objects", "traversals", "what_classification")
        return
    assert math.isfinite(found.value)
    check_that_it_follows(how, found)
    assert found.n >= 1
    assert all(array.dtype != object for array in found.arrays.values())
    again = measure(how, made(spec))
    assert again.value == found.value
    for key, array in found.arrays.items():
        assert np.array_equal(array, again.arrays[key], equal_nan=array.dtype.kind == "f")


@pytest.mark.parametrize("spec", READERS, ids=str)
def test_every_metric_of_readers_measures_every_reader(spec: Spec) -> None:
    """Twice the same, whatever weights they begin with; what has nothing to measure says so."""
    it = reader(spec)
    for what in TINY_OF_READERS:
        how = build(what)
        if not isinstance(it, how.requires or GenerativeModel):
            assert (spec.name, what.name) == ("air", "memory")
            continue
        try:
            found = measure(how, it, DIGITS)
        except NothingToMeasure:  # fresh weights may match no object, and AIR has no slots
            assert what.name == "slots"
            continue
        assert math.isfinite(found.value)
        check_that_it_follows(how, found)
        assert all(array.dtype != object for array in found.arrays.values())
        again = measure(how, reader(spec), DIGITS)
        assert again.value == found.value
        for key, array in found.arrays.items():
            assert np.array_equal(array, again.arrays[key], equal_nan=array.dtype.kind == "f"), key


@pytest.mark.parametrize("spec", READERS, ids=str)
def test_the_terms_of_a_reader_add_up_to_its_log_weights(spec: Spec) -> None:
    it, x = reader(spec), torch.from_numpy(DIGITS.split("test").image[np.arange(4)]).float() / 255
    with seeded(3), torch.no_grad():
        whole = it.log_weights(x, 5)
    with seeded(3), torch.no_grad():
        terms = it.log_weight_terms(x, 5)  # type: ignore[operator]
    assert torch.allclose(sum(terms.values()), whole, atol=1e-3)
    dialect = measure(build(metric("nll", images=2)), it, DIGITS).dialect
    assert dialect == "count_prior=annealed likelihood=bernoulli"


@pytest.mark.parametrize("what", [*TINY_OF_DRAWERS, *TINY_OF_RUNS], ids=str)
def test_a_metric_of_drawers_measures_twice_the_same(what: Spec) -> None:
    how, data = build(what), Runs() if what in TINY_OF_RUNS else Bars()
    found, again = (measure(how, Drawer(noise=0.2, error=0.1), data) for _ in range(2))
    assert math.isfinite(found.value)
    check_that_it_follows(how, found)
    assert all(array.dtype != object for array in found.arrays.values())
    assert again.value == found.value
    for key, array in found.arrays.items():
        assert np.array_equal(array, again.arrays[key], equal_nan=array.dtype.kind == "f"), key


def reader(spec: Spec) -> GenerativeModel[Any]:
    options = (("per_count", 20), ("source", "digits"), ("test", 12), ("valid", 3))
    return Run(spec, Spec("dataset", "multimnist", options)).build_model().eval()


@pytest.mark.parametrize("spec", MODELS, ids=str)
def test_the_bounds_are_ordered_and_below_the_ceiling_of_the_likelihood(spec: Spec) -> None:
    it = made(spec)
    measured = measure(build(metric("log_marginal", particles=30, images=2)), it)
    elbo, ll10, ll30 = (measured.arrays[key] for key in ("elbo", "ll10", "value"))
    assert (elbo <= ll10).all()
    assert (ll10 <= ll30).all()
    sigma = getattr(it.config, "sigma", None)
    if sigma is not None and "relaxed" not in str(spec):  # as coded, the weights are no bound
        assert (ll30 < 64 * 64 * (-math.log(sigma) - 0.5 * math.log(2 * math.pi))).all()
        assert f"sigma={sigma}" in measured.dialect


def test_the_two_readings_of_presence_are_told_apart() -> None:
    plain, coded = (
        measure(build(next(one for one in TINY if one.name == "log_marginal")), made(spec))
        for spec in MODELS[:2]
    )
    assert "presence=discrete" in plain.dialect
    assert "presence=relaxed" in coded.dialect
    assert plain.value != coded.value
