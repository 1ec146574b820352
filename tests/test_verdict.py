"""Verdicts: laws that hold whatever the numbers are."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from scipy import stats

from reprise.core.claims import values_of
from reprise.core.order import OrderAgreement, order_agreement
from reprise.core.power import t_quantile
from reprise.core.results import PublishedValue, ResultRow
from reprise.core.verdict import Verdict, judge, margin_of, standard_error


def row(value: float | None, seed: int = 0, **changes: Any) -> ResultRow:
    base = ResultRow(
        protocol="p",
        tier="paper",
        model="GNM",
        train="scenes()",
        dataset="MNIST-4",
        metric="S-Acc",
        seed=seed,
    )
    return dataclasses.replace(base, **{"value": value, "better": "higher", **changes})


def rows(*values: float, **changes: Any) -> list[ResultRow]:
    return [row(value, seed, **changes) for seed, value in enumerate(values)]


def shares(*values: float, n: int, ddof: int = 0) -> list[ResultRow]:
    """Of n things each is right or wrong."""
    return [
        row(value, seed, n=n, stderr=(value * (1 - value) / (n - ddof)) ** 0.5)
        for seed, value in enumerate(values)
    ]


def printed(text: str, value: float | None = None, **changes: Any) -> PublishedValue:
    value = float(text.lstrip("<>")) if value is None else value
    changes = {"better": "higher", **changes}
    return PublishedValue(
        model="GNM", dataset="MNIST-4", metric="S-Acc", value=value, printed=text, **changes
    )


def verdict(
    found: list[ResultRow], published: PublishedValue | None, tier: str = "paper"
) -> Verdict:
    """Of numbers of samples, as S-Acc is: each seed has its own."""
    return judge(found, published, tier=tier, seeds=len(found), drawn=True).verdict


def test_one_seed_is_never_a_pass() -> None:
    for value in (0.9, 0.5, 0.0):
        judged = judge(rows(value, stderr=0.001, n=250), printed("0.9", spread=0.3), tier="paper")
        assert judged.verdict is Verdict.INCONCLUSIVE
        assert "one seed" in judged.reason
        assert judged.interval is None


def test_seeds_that_agree_closely_within_the_margin_are_equivalent() -> None:
    judged = judge(rows(0.982, 0.983, 0.9825), printed("0.98"), tier="paper", seeds=3)
    assert judged.verdict is Verdict.EQUIVALENT
    assert judged.margin == pytest.approx(0.005)
    assert judged.margin_origin == "half of the last printed digit"
    assert judged.interval is not None
    assert abs(max(judged.interval, key=abs)) < 0.005


def test_the_interval_is_that_of_two_one_sided_t_tests() -> None:
    values = (0.983, 0.981, 0.984, 0.979)
    judged = judge(rows(*values), printed("0.98"), tier="paper", seeds=4)
    expected = stats.t.interval(0.90, 3, loc=np.mean(values) - 0.98, scale=stats.sem(values))
    assert judged.interval == pytest.approx(expected)


def test_widening_noise_never_makes_a_pass_out_of_a_failure_nor_certainty_out_of_doubt() -> None:
    deviations = np.array([-1.0, 0.0, 1.0])
    for centre in (0.5, 0.79, 0.8, 0.81, 0.95):
        seen = [
            verdict(rows(*(centre + width * deviations)), printed("0.80", spread=0.02))
            for width in np.geomspace(1e-5, 1.0, 60)
        ]
        decided = [word for word in seen if word is not Verdict.INCONCLUSIVE]
        assert len(set(decided)) <= 1, "the noise alone changed what was decided"
        assert seen[: len(decided)] == decided, "more noise decided what less noise could not"


def test_more_evaluation_noise_of_ours_never_widens_the_margin() -> None:
    published = printed("0.824", n=250)
    sharp, blunt = shares(0.82, 0.83, 0.82, n=100_000), shares(0.82, 0.83, 0.82, n=4)
    assert margin_of(published, sharp) == margin_of(published, blunt) == margin_of(published)
    assert verdict(sharp, published) is Verdict.EQUIVALENT
    assert verdict(blunt, published) is Verdict.INCONCLUSIVE


def test_a_smaller_test_set_of_ours_does_not_widen_the_margin() -> None:
    published = printed("10450", n=6000)
    large = rows(10450, stderr=60 / 6000**0.5, n=6000)
    small = rows(10450, stderr=60 / 60**0.5, n=60)
    assert margin_of(published, large)[0] == pytest.approx(2 * 60 / 6000**0.5)
    assert margin_of(published, small)[0] == pytest.approx(margin_of(published, large)[0])


@pytest.mark.parametrize("n", [250, 10_000])
def test_a_verdict_stands_when_all_numbers_are_shifted(n: int) -> None:
    """A squared error lies between 0 and 1 and is no count of successes, of however many images."""
    words = []
    for shift in (0.0, 1.0, -1.0, 50.0):
        values = [0.0170 + shift, 0.0171 + shift, 0.0172 + shift]
        judged = judge(
            rows(*values, stderr=1e-4, n=n, better="lower"),
            printed(f"{0.0154 + shift:.4f}", n=n, better="lower"),
            tier="paper",
            seeds=3,
        )
        words.append((judged.verdict, judged.margin_origin))
        assert judged.margin == pytest.approx(2e-4, rel=1e-6)
    assert set(words) == {words[0]}
    assert words[0][0] is Verdict.WORSE


@pytest.mark.parametrize("ddof", [0, 1])
def test_a_count_is_told_by_how_far_its_examples_spread(ddof: int) -> None:
    """Whatever the number of examples; and of none or all of them the printed digits tell, if they can."""
    for n in (250, 10_000):
        _, origin = margin_of(printed("0.824", n=n), shares(0.80, 0.81, n=n, ddof=ddof))
        assert "binomial" in origin
        _, origin = margin_of(printed("0.824", n=n), rows(0.80, 0.81, stderr=0.001, n=n))
        assert "binomial" not in origin
    none, one = (shares(*[p] * 5, n=n, ddof=ddof) for p, n in ((0.0, 250), (1.0, 704)))
    assert "binomial" in margin_of(printed("0.000", n=250), none)[1]
    assert verdict(none, printed("0.000", n=250)) is Verdict.EQUIVALENT
    # One stroke on every digit is a count of strokes, and five seeds that agree so far show no spread.
    assert verdict(one, printed("1.0", n=704)) is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(
    ("text", "half"),
    [("0.984", 5e-4), (".65", 5e-3), (">2000", 0.5), ("10,964", 0.5), ("~79%", 5e-3), ("73.5%", 5e-4),
     ("2.9M", 5e4), ("1.2k", 50.0), ("12k", 500.0), ("−4.50", 5e-3)],
)  # fmt: skip
def test_half_of_the_last_digit_is_in_the_unit_that_is_printed(text: str, half: float) -> None:
    assert printed(text, value=1.0).resolution == pytest.approx(half)


@pytest.mark.parametrize("text", ["", "N/A", "1.2B", "1.2e3", "about 3", "M", "-"])
def test_what_is_no_printed_number_has_no_digits_and_no_verdict(text: str) -> None:
    value = printed(text, value=1.0)
    assert value.resolution is None
    assert verdict(rows(1.0, 1.0, 1.001), value) is Verdict.INCOMPARABLE


def test_verdicts_mirror_when_all_signs_do() -> None:
    mirror = {Verdict.BETTER: Verdict.BETTER, Verdict.WORSE: Verdict.WORSE}
    for centre in (1.0, 4.9, 5.0, 5.2, 9.0):
        values = [centre - 0.02, centre, centre + 0.02]
        ours = verdict(rows(*values), printed("5.0"))
        flipped = verdict(
            rows(*(-value for value in values)), printed("-5.0", value=-5.0, better="lower")
        )
        assert flipped is mirror.get(ours, ours)
    assert verdict(rows(8.9, 9.0, 9.1), printed("5.0")) is Verdict.BETTER
    assert verdict(rows(8.9, 9.0, 9.1), printed("5.0", better="lower")) is Verdict.WORSE


def test_more_seeds_do_not_make_a_faithful_reproduction_worse_by_the_papers_own_luck() -> None:
    random = np.random.default_rng(0)
    wrong = 0
    for _ in range(400):
        theirs, *ours = random.normal(100.0, 3.0, 21)
        word = verdict(rows(*ours), printed(f"{theirs:.1f}"))
        wrong += word in (Verdict.BETTER, Verdict.WORSE)
    assert wrong / 400 < 0.13  # two sides of 5 %, and chance


def test_the_largest_margin_that_applies_is_taken_and_says_its_origin() -> None:
    assert margin_of(printed("0.824"))[0] == pytest.approx(0.0005)
    assert margin_of(printed("0.824"))[1] == "half of the last printed digit"
    assert margin_of(printed("33740", confidence="doubtful digit"))[0] == 5
    margin, origin = margin_of(printed("0.8", spread=0.1, spread_kind="std over 5 seeds"))
    assert margin == pytest.approx(0.2)
    assert "std over 5 seeds" in origin
    margin, origin = margin_of(printed("0.824", n=250))
    assert margin == pytest.approx(2 * (0.824 * 0.176 / 250) ** 0.5, rel=0.02)
    assert "binomial" in origin
    assert 0.005 < margin_of(printed("0.000", n=250))[0] < 0.02, "none of 250 is no certainty"


def test_exact_quantities_are_compared_at_their_printed_digits_even_below_tier_paper() -> None:
    parameters = printed("2.9M", value=2.9e6, better="neither")
    exact = row(2_930_708.0, dialect="exact", better="neither")
    assert verdict([exact], parameters) is Verdict.EQUIVALENT
    assert verdict([exact], parameters, "mini") is Verdict.EQUIVALENT
    assert verdict([exact], parameters, "demo") is Verdict.INCOMPARABLE
    for other in (3_848_212.0, 1_419_929.0):  # neither a larger nor a smaller model is a worse one
        another = row(other, dialect="exact", better="neither")
        assert verdict([another], parameters) is Verdict.DIFFERENT
    assert verdict([row(2_930_708.0)], parameters) is Verdict.INCONCLUSIVE, "not declared exact"
    for word in ("inexact", "extractor=exact"):
        assert verdict([row(2_930_708.0, dialect=word)], parameters) is Verdict.INCONCLUSIVE
    for half in (0.9835, 0.9845):
        assert verdict([row(half, dialect="exact")], printed("0.984")) is Verdict.EQUIVALENT


def test_seeds_that_agree_to_the_last_bit_prove_nothing_of_a_noisy_metric() -> None:
    assert verdict(rows(160.0, 160.0, 160.0), printed("160")) is Verdict.INCONCLUSIVE
    assert (
        verdict(rows(0.0, 0.0, 0.0, stderr=0.0, n=250), printed("0.000", n=250))
        is Verdict.EQUIVALENT
    )


def test_the_number_of_parameters_depends_on_no_image_and_so_on_no_stand_in() -> None:
    parameters = printed("8.6M", 8.6e6, better="neither")
    ours = row(8_636_446.0, dialect="exact", better="neither", stand_in="ArrowRoom-R")
    assert verdict([ours], parameters, "mini") is Verdict.EQUIVALENT
    assert (
        verdict([dataclasses.replace(ours, dialect="")], parameters, "mini") is Verdict.INCOMPARABLE
    )


@pytest.mark.parametrize("tier", ["demo", "mini"])
def test_a_smaller_tier_is_incomparable_and_says_so(tier: str) -> None:
    judged = judge(rows(0.98, 0.98), printed("0.98"), tier=tier, seeds=2)
    assert judged.verdict is Verdict.INCOMPARABLE
    assert tier in judged.reason
    assert judged.difference == pytest.approx(0.0), "the difference is still shown"


def test_stand_in_data_and_other_dialects_are_incomparable() -> None:
    for other in ("scikit-learn's digits", "ArrowRoom-R"):
        judged = judge(rows(0.98, 0.981, stand_in=other), printed("0.98"), tier="paper", seeds=2)
        assert judged.verdict is Verdict.INCOMPARABLE
        assert other in judged.reason
    mixed = [row(0.98, 0, dialect="judge=1"), row(0.98, 1, dialect="judge=2")]
    assert verdict(mixed, printed("0.98")) is Verdict.INCOMPARABLE
    theirs = printed("0.98", dialect="particles=100")
    same = {"dialect": "particles=100 sigma=0.2"}
    assert verdict(rows(0.979, 0.981, 0.98, **same), theirs) is not Verdict.INCOMPARABLE
    assert verdict(rows(0.979, 0.981, 0.98, dialect="particles=10"), theirs) is Verdict.INCOMPARABLE


def test_seeds_of_several_things_are_not_averaged() -> None:
    """A model that was changed under its label is no further seed of what it was."""
    for one, other in (
        ({"parameters": 656}, {"parameters": 1300}),
        ({"dialect": "judge=1"}, {"dialect": "judge=2"}),
        ({"precision": "fp32"}, {"precision": "bf16"}),
    ):
        mixed = [row(0.98, 0, **one), row(0.97, 1, **other)]
        for value in (printed("0.98"), None):
            judged = judge(mixed, value, tier="paper", seeds=2)
            assert (judged.verdict, judged.mean) == (Verdict.INCOMPARABLE, None)
            assert "not averaged" in judged.reason
        models = [(mixed, printed("0.98")), *column([0.5, 0.4], ["0.5", "0.4"])]
        agreement = order_agreement(models)
        assert agreement is not None
        assert agreement.n == 2
        assert isinstance(values_of(mixed, mixed[0].key[:3], 2), str)


def test_nothing_is_averaged_over_holes() -> None:
    for hole in ("failed", "diverged", "n/a", "not available yet"):
        judged = judge(
            [row(0.98), row(None, 1, status=hole)], printed("0.98"), tier="paper", seeds=2
        )
        assert judged.verdict is Verdict.MISSING
        assert hole in judged.reason
        assert judged.mean is None
    judged = judge(rows(0.98, 0.98), printed("0.98"), tier="paper", seeds=3)
    assert (judged.verdict, judged.reason) == (Verdict.MISSING, "2 of 3 seeds measured")
    assert judge([row(float("nan"))], None, tier="paper").verdict is Verdict.MISSING
    assert judge([], printed("0.98"), tier="paper").reason == "not measured yet"


def test_a_censored_value_is_never_equal_but_can_be_decided_from_one_side() -> None:
    capped = rows(2000, 2000, 2000, censored=">")
    assert verdict(capped, printed("2000")) is Verdict.INCONCLUSIVE
    assert verdict(capped, printed(">2000")) is Verdict.INCONCLUSIVE
    assert verdict(capped, printed("500")) is Verdict.BETTER
    assert verdict(capped, printed("5000")) is Verdict.INCONCLUSIVE
    assert verdict(rows(499, 500, 501), printed(">2000")) is Verdict.WORSE
    assert verdict(rows(4990, 5000, 5010), printed(">2000")) is Verdict.INCONCLUSIVE


def test_standard_deviations_divide_by_n_minus_one() -> None:
    assert judge(rows(1.0, 2.0, 3.0), None, tier="paper", seeds=3).std == pytest.approx(1.0)


def test_lucky_agreement_of_seeds_is_no_more_precise_than_each_evaluation() -> None:
    assert standard_error(rows(0.5, 0.5, 0.5, stderr=0.03)) == pytest.approx(0.03 / 3**0.5)
    assert t_quantile(2) == pytest.approx(stats.t.ppf(0.95, 2))


def column(ours: list[float], theirs: list[str]) -> list[tuple[list[ResultRow], PublishedValue]]:
    return [(rows(a), printed(b)) for a, b in zip(ours, theirs, strict=True)]


def test_order_agreement_is_kendalls_tau_over_models_with_both_numbers() -> None:
    ours, theirs = [3.0, 1.0, 2.0, 2.0, 9.0], ["5", "1", "2", "3", "4"]
    agreement = order_agreement(column(ours, theirs))
    assert agreement is not None
    expected = stats.kendalltau(ours, [float(text) for text in theirs]).statistic
    assert agreement.tau == pytest.approx(expected)
    assert agreement.n == 5
    holes = [*column(ours, theirs), ([row(None, status="failed")], printed("7")), (rows(1.0), None)]
    assert order_agreement(holes) == agreement
    assert order_agreement(column([1.0], ["1"])) is None


def test_a_number_that_is_printed_once_counts_once_in_the_order() -> None:
    whole = column([3.0, 1.0, 2.0], ["5", "1", "2"])
    placed = [
        (ours, dataclasses.replace(one, page="6", table="1", row=one.printed, column="LL"))
        for ours, one in whole
    ]
    again = (rows(2.9), dataclasses.replace(placed[0][1], model="GNM (as coded)"))
    assert order_agreement([*placed, again]) == order_agreement(whole)


def test_numbers_of_contradicting_dialects_are_in_no_order() -> None:
    def found(*dialects: str) -> OrderAgreement | None:
        return order_agreement(
            ([row(0.5 + n / 10, dialect=said)], printed(f"0.{5 + n}"))
            for n, said in enumerate(dialects)
        )

    assert found("particles=1", "particles=100") is None
    several = found("particles=100", "particles=1", "particles=100 presence=discrete")
    assert several is not None
    assert several.n == 2


def test_order_leaves_open_what_bounds_leave_open() -> None:
    agreement = order_agreement(column([1.0, 2.0], [">2000", ">2000"]))
    assert agreement is not None
    assert (agreement.agree, agreement.disagree, agreement.tau) == (0, 0, None)
    agreement = order_agreement(column([1.0, 2.0], ["1500", ">2000"]))
    assert agreement is not None
    assert agreement.agree == 1


def test_a_number_stands_beyond_a_bound_of_the_same_value() -> None:
    for higher, lower in (("5", "<5"), (">5", "5"), (">5", "<5")):
        agreement = order_agreement(column([2.0, 1.0], [higher, lower]))
        assert agreement is not None
        assert (agreement.agree, agreement.disagree) == (1, 0), (higher, lower)
    for one, other in (
        (">5", ">5"),
        ("<5", "<5"),
        ("5", "5"),
        ("<6", "5"),
        (">5", "6"),
        (">5", "<6"),
    ):
        agreement = order_agreement(column([2.0, 1.0], [one, other]))
        assert agreement is not None
        assert agreement.tau is None, (one, other)


def test_verdicts_and_reports_start_without_torch() -> None:
    modules = "core.published core.verdict render.table render.document render.check render.compare"
    imports = "; ".join(f"import reprise.{name}" for name in modules.split())
    code = f"import sys; {imports}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
