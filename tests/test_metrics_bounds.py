"""Likelihood bounds, the gap of a relaxation and the course of a training, where the answer is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from reprise.baselines.ppca import PPCA, PPCAConfig
from reprise.core.dataset import DatasetInfo
from reprise.core.errors import ContractError, DataError, NothingToMeasure, UsageError
from reprise.core.metric import Measurement, Metric
from reprise.core.model import Itemizes, Relaxes, evaluation_option
from reprise.core.randomness import seeded
from reprise.metrics.nll import NLL
from reprise.metrics.relaxation_gap import RelaxationGap
from reprise.metrics.training_loss import TrainingLoss
from reprise.training.fit import read_log

from .test_metrics_attention import SIDE, Tiles

DATA = Tiles()
INFO = DatasetInfo("tiles", (1, SIDE, SIDE), objects=2)
SPREAD = 1.0


class Lognormal(PPCA):
    """Weights whose logarithm is normal about -1 for every lit pixel, so every bound is known in closed form."""

    def log_weights(self, x: Tensor, particles: int) -> Tensor:
        lit = (x > 0).flatten(1).sum(1).float()
        return -lit + SPREAD * torch.randn(particles, len(x))


class Itemized(Lognormal, Itemizes):
    def log_weight_terms(self, x: Tensor, particles: int) -> dict[str, Tensor]:
        lit = (x > 0).flatten(1).sum(1).float()
        noise = SPREAD * torch.randn(particles, len(x))
        return {"log_likelihood": noise - 2 * lit, "pres": lit.expand(particles, -1)}


class Relaxed(Lognormal, Relaxes):
    def relaxed_elbo(self, x: Tensor) -> Tensor:
        return 10 - (x > 0).flatten(1).sum(1).float()


def made(kind: type[PPCA]) -> Any:
    return kind(PPCAConfig(), INFO).eval()


def measure(how: Metric, model: Any, seed: int = 0) -> Measurement:
    with seeded(seed), torch.inference_mode():
        return how(model, DATA)


LIT = (0 + 36 + 72) / 3  # pixels, over images with none, one and two tiles


def test_both_estimators_of_the_nll_are_those_of_the_closed_form() -> None:
    nelbo = measure(NLL(particles=1000), made(Lognormal))
    assert nelbo.value == pytest.approx(LIT, abs=0.02)
    iwae = measure(NLL("iwae", particles=500), made(Lognormal))
    assert iwae.value == pytest.approx(
        LIT - SPREAD**2 / 2, abs=0.02
    )  # log E w = mean + variance / 2
    assert iwae.arrays["nelbo"].mean() == pytest.approx(LIT, abs=0.02)


def test_one_draw_is_the_same_by_both_and_more_particles_never_loosen_the_bound() -> None:
    one = [measure(NLL(kind, particles=1), made(Lognormal)).value for kind in ("nelbo", "iwae")]
    assert one[0] == one[1]
    tighter = [measure(NLL("iwae", particles=k), made(Lognormal)).value for k in (1, 3, 100)]
    assert tighter == sorted(tighter, reverse=True)
    both = measure(NLL("iwae", particles=20), made(Lognormal)).arrays
    assert (both["value"] <= both["nelbo"]).all()


def test_the_iwae_bound_reaches_the_exact_likelihood_of_ppca() -> None:
    model = made(PPCA)
    x = torch.from_numpy(DATA.split("test").image[np.arange(60)]).float() / 255
    exact = -model.exact_log_marginal(x).double().mean().item()
    found = measure(NLL("iwae", particles=300), model).value
    assert exact - 0.5 < found < measure(NLL(particles=10), model).value
    assert found == pytest.approx(exact, rel=0.02)


def test_nlls_are_told_apart_by_true_count() -> None:
    found = measure(NLL(particles=100), made(Lognormal))
    assert found.arrays["by_count"] == pytest.approx([0, 36, 72], abs=0.05)
    for count, lit in enumerate((0, 36, 72)):
        part = measure(NLL(particles=100, count=count), made(Lognormal))
        assert part.n == 20
        assert part.value == pytest.approx(lit, abs=0.1)
        assert f"count={count}" in NLL(count=count).dialect
    with pytest.raises(NothingToMeasure):
        measure(NLL(count=3), made(Lognormal))


def test_the_terms_add_up_to_the_bound() -> None:
    found = measure(NLL(particles=7), made(Itemized))
    arrays = found.arrays
    assert arrays["term"].tolist() == ["log_likelihood", "pres"]
    assert arrays["terms"].sum(0) == pytest.approx(-arrays["nelbo"])
    assert arrays["terms_by_count"][1] == pytest.approx([0, 36, 72])
    assert found.value == pytest.approx(measure(NLL(particles=7), made(Lognormal)).value)


def test_a_model_without_terms_stores_none() -> None:
    assert "terms" not in measure(NLL(particles=2), made(Lognormal)).arrays


def test_the_dialect_says_estimator_particles_and_how_the_model_scores() -> None:
    assert NLL("iwae", particles=50).dialect == "estimator=iwae particles=50"
    assert measure(NLL(particles=1), made(Lognormal)).dialect == "widen=1.2"

    @dataclass(frozen=True)
    class Config:
        likelihood: str = "bernoulli"
        count_prior: str = evaluation_option("uniform")
        memory: int = 15

    model = made(Lognormal)
    model.config = Config()
    assert measure(NLL(particles=1), model).dialect == "count_prior=uniform likelihood=bernoulli"


def test_weights_that_are_not_finite_and_options_that_make_no_sense_are_refused() -> None:
    class Lost(Lognormal):
        def log_weights(self, x: Tensor, particles: int) -> Tensor:
            return super().log_weights(x, particles) / 0

    class Mute(Lognormal):
        def log_weights(self, x: Tensor, particles: int) -> Tensor:
            return super().log_weights(x, particles).sum(0)

    with pytest.raises(FloatingPointError, match="diverge"):
        measure(NLL(particles=2), made(Lost))
    with pytest.raises(ContractError, match="particles, batch"):
        measure(NLL(particles=2), made(Mute))
    for wrong in ({"particles": 0}, {"images": 0}, {"count": -1}):
        with pytest.raises(UsageError):
            NLL(**wrong)  # type: ignore[arg-type]


def test_the_relaxation_gap_is_relaxed_minus_discrete() -> None:
    found = measure(RelaxationGap(draws=100), made(Relaxed))
    assert found.value == pytest.approx(-10, abs=0.05)
    assert found.arrays["relaxed"] - found.arrays["discrete"] == pytest.approx(
        found.arrays["value"]
    )


# The course of a training -------------------------------------------------------------------------------------------

STEPS = np.arange(100.0, 10_001, 100)


def course(loss: Any, quantity: str) -> float:
    log = {"step": STEPS, "loss": np.broadcast_to(np.asarray(loss, float), STEPS.shape)}
    return TrainingLoss(quantity).of_log(log).value  # type: ignore[arg-type]


def test_a_plateau_and_then_a_drop_are_seen() -> None:
    staircase = np.where(STEPS <= 4000, 400.0, np.where(STEPS <= 4500, 300.0, 160.0))
    assert course(staircase, "drop") == pytest.approx(0.6)
    assert course(staircase, "plateau") == pytest.approx(0.4, abs=0.1)
    assert course(staircase, "final") == 160.0


def test_a_loss_that_falls_steadily_has_no_plateau_and_one_that_stays_no_drop() -> None:
    steady = 400 * 0.5 ** (STEPS / 1000)
    assert course(steady, "drop") == pytest.approx(0.5)
    assert course(steady, "plateau") < 0.05
    assert course(200.0, "drop") == 0.0
    with pytest.raises(NothingToMeasure, match="positive"):
        course(-5.0, "drop")
    with pytest.raises(NothingToMeasure, match="short"):
        TrainingLoss("drop").of_log({"step": np.array([300.0]), "loss": np.array([1.0])})


def test_a_log_is_read_up_to_the_weights_step_and_one_that_ends_before_is_refused(
    tmp_path: Any,
) -> None:
    path = tmp_path / "log.csv"
    path.write_text("step,loss,steps_per_second\n100,3.5,9\n200,2.5,9\n300,1.5,9\n")
    assert read_log(path, 200)["loss"].tolist() == [3.5, 2.5]
    assert read_log(path, 250)["step"].tolist() == [100, 200]
    arrays = TrainingLoss().of_log(read_log(path, 300)).arrays
    assert set(arrays) == {"step", "loss"}  # a speed is the machine's, not the training's
    for last in (400, 1000):
        with pytest.raises(DataError, match="ends at step 300"):
            read_log(path, last)
    with pytest.raises(DataError, match="cannot be read"):
        read_log(tmp_path / "none.csv", 1)


def test_a_metric_of_the_training_measures_no_model() -> None:
    with pytest.raises(ContractError, match="log"):
        measure(TrainingLoss(), made(Lognormal))
