"""NVIL: the gradient of an ELBO through discrete latents that are drawn one after another (Mnih & Gregor, ICML 2014).

A decision b_t ~ Bernoulli(q_t), t = 1 … T, made only while `before_t` is 1, changes the likelihood and every term that
comes after it. With `reward_t` the sum of what it can change, and any baseline that does not depend on b_t,

    d/dφ E[ELBO] = E[ d ELBO/dφ + Σ_t before_t (reward_t - baseline_t) d log q(b_t)/dφ ].

So the surrogate ELBO + Σ_t before_t log q(b_t) stop(reward_t - baseline_t) has the right gradient in expectation.
tests/test_nvil.py holds it against exact enumeration.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def surrogate(log_q: Tensor, before: Tensor, signal: Tensor) -> Tensor:
    """What to add to the ELBO of each image: (B, T) each -> (B,). Its value means nothing, its gradient does.

    log_q: log q(b_t | b_<t) of the decisions made. before: 1 while decisions are still made, else 0. signal: reward
    minus baseline, standardised or not.
    """
    return (before * log_q * signal.detach()).sum(1)


class Standardised(nn.Module):
    """Signals less their running mean, over their running standard deviation where that exceeds 1 (Mnih & Gregor, 3.2).

    The first batch sets the statistics; later ones move them by `1 - decay`. Only signals of decisions made count.
    """

    mean: Tensor
    variance: Tensor
    updates: Tensor

    def __init__(self, decay: float = 0.8) -> None:
        super().__init__()
        self.decay = decay
        for name, value in (("mean", 0.0), ("variance", 1.0), ("updates", 0.0)):
            self.register_buffer(name, torch.tensor(value))

    def forward(self, signal: Tensor, before: Tensor) -> Tensor:
        """(B, T), (B, T) -> (B, T); in training the batch is counted first, as the authors of DooD do."""
        signal = signal.detach()
        if self.training:
            made = before.sum().clamp(min=1)
            mean = (before * signal).sum() / made
            variance = (before * (signal - mean).square()).sum() / made
            share = torch.where(self.updates == 0, 1.0, 1 - self.decay)
            self.mean.lerp_(mean, share)
            self.variance.lerp_(variance, share)
            self.updates += 1
        return (signal - self.mean) / self.variance.sqrt().clamp(min=1)


class Baseline(nn.Module):
    """Predicts each step's reward from the image and the latents before it: an LSTM, then one hidden layer.

    Rewards are hundreds of nats at first and tens later: they are standardised by running statistics, so that the
    regression is as hard at the end as at the start. Nothing of its gradient reaches what it looks at.
    """

    mean: Tensor
    square: Tensor
    updates: Tensor

    def __init__(self, inputs: int, recurrent: int = 256, hidden: int = 200, decay: float = 0.99):
        super().__init__()
        self.decay = decay
        self.lstm = nn.LSTM(inputs, recurrent, batch_first=True)
        self.head = nn.Sequential(nn.Linear(recurrent, hidden), nn.ReLU(), nn.Linear(hidden, 1))
        for name in ("mean", "square", "updates"):
            self.register_buffer(name, torch.zeros(()))

    def forward(self, seen: Tensor) -> Tensor:
        """Standardised prediction for each step: (B, T, D) -> (B, T)."""
        hidden, _ = self.lstm(seen.detach())
        predicted: Tensor = self.head(hidden)[..., 0]
        return predicted.float()

    def spread(self) -> tuple[Tensor, Tensor]:
        """Running mean and standard deviation (at least 1) of the rewards."""
        share = 1 - self.decay ** self.updates.clamp(min=1)
        mean = self.mean / share
        return mean, (self.square / share - mean.square()).clamp(min=1).sqrt()

    def fit(self, seen: Tensor, before: Tensor, reward: Tensor) -> tuple[Tensor, Tensor]:
        """(baseline in nats (B, T), regression loss); updates the statistics in training."""
        reward = reward.detach()
        # From earlier batches: a baseline that knew these rewards would bias the gradient. The first has only itself.
        first = self.updates == 0
        mean, std = self.spread()
        if self.training:
            with torch.no_grad():
                made = before.sum().clamp(min=1)
                self.mean.lerp_((before * reward).sum() / made, 1 - self.decay)
                self.square.lerp_((before * reward.square()).sum() / made, 1 - self.decay)
                self.updates += 1
                own_mean, own_std = self.spread()
                mean, std = torch.where(first, own_mean, mean), torch.where(first, own_std, std)
        predicted = self(seen)
        error = F.mse_loss(predicted, (reward - mean) / std, reduction="none")
        return (mean + std * predicted).detach(), 0.5 * (before * error).sum(1).mean()
