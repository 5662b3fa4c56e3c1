"""Distillation losses: how far a student's logit is from its teacher's.

All share one signature, (s, t, weight, temperature) -> scalar:

- s: [B] student logit.
- t: [B] float64 teacher logit, the calibrated log-odds of the target (`calibrate.target_logit`); NaN: the row has no
  score. A missing score changes only the count of rows: it has no loss and no gradient.
- weight: [B] >= 0; the loss is sum(w l) / sum(w) over rows that have a score, 0 without any.
- temperature: T divides both logits, and the loss is multiplied by T^2, which keeps the size of gradients
  (Hinton et al., 2015).

t is a logit: a probability that is passed here would be read as one, and nothing maps p to p / (1 + p).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from dmtl_cli.losses import weighted_mean

Loss = Callable[[Tensor, Tensor, Tensor, float], Tensor]


def kl(s: Tensor, t: Tensor, weight: Tensor, temperature: float = 1.0) -> Tensor:
    """Bernoulli KL(sigmoid(t) || sigmoid(s)), nats (DMTL, 2021): 0 at s = t, gradient sigmoid(s) - sigmoid(t) at T = 1.

    For large T it is (s - t)^2 / 8.
    """

    def of(s: Tensor, t: Tensor) -> Tensor:
        yes = F.logsigmoid(t) - F.logsigmoid(s)
        no = F.logsigmoid(-t) - F.logsigmoid(-s)
        return torch.sigmoid(t) * yes + torch.sigmoid(-t) * no

    return _mean(of, s, t, weight, temperature)


def mse_logit(s: Tensor, t: Tensor, weight: Tensor, temperature: float = 1.0) -> Tensor:
    """(s - t)^2 (Kim et al., IJCAI 2021). T cancels: (s/T - t/T)^2 T^2."""
    return _mean(lambda s, t: (s - t).square(), s, t, weight, temperature)


def mse_prob(s: Tensor, t: Tensor, weight: Tensor, temperature: float = 1.0) -> Tensor:
    """(sigmoid(s) - sigmoid(t))^2 (a production account of DMTL). For large T it is (s - t)^2 / 16."""
    return _mean(lambda s, t: (torch.sigmoid(s) - torch.sigmoid(t)).square(), s, t, weight, temperature)


LOSSES: dict[str, Loss] = {"kl": kl, "mse_logit": mse_logit, "mse_prob": mse_prob}


def _mean(of: Callable[[Tensor, Tensor], Tensor], s: Tensor, t: Tensor, weight: Tensor, temperature: float) -> Tensor:
    """Weighted mean of a row's loss over rows that have a score; computed in the wider type, returned in that of s."""
    scored = ~t.isnan()
    wide = torch.promote_types(s.dtype, t.dtype)
    known = torch.where(scored, t.detach(), 0.0).to(wide)
    loss = temperature**2 * of(s.to(wide) / temperature, known / temperature)
    return weighted_mean(loss, weight * scored).to(s.dtype)
