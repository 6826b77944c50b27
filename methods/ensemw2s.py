"""Votes weighed as AdaBoost weighs its classifiers."""

import math
from dataclasses import dataclass

from torch import Tensor

from benchmark.api import Supervision, hard, product_grid, register_method, safe_log
from methods._agreement import agreement_with_others
from methods.ensemble import Ensemble


def error_rates(supervision: Supervision) -> Tensor:
    """Of each supervisor, (R, M): on source examples that it has not been trained on; where a task has none, the mean
    share of the others who vote otherwise."""
    if supervision.source_scores is not None:
        return 1 - supervision.source_scores
    return 1 - agreement_with_others(hard(supervision.soft_labels))


@register_method
@dataclass(eq=False)
class EnsemW2S(Ensemble):
    """CE(q, sum_m w_m v_m), w_m proportional to max(0, log((1 - e_m) / e_m) + log(K - 1)), v_m the one-hot votes.

    e_m is supervisor m's error rate on labelled source examples that it has not been trained on; on tasks that have
    none, the mean share of the others who vote otherwise. All weights are alike where nobody is better than chance. In
    the condition `ind` the source is the pool itself: these are M numbers from the truth of its validation split.

    Source: Agrawal et al. (2024), "EnsemW2S", arXiv:2410.04571, whose abstract and a review (themoonlight.io) were
    read: AdaBoost of several classes, in which each token is an example. Its own weights were not; this one is SAMME's,
    Zhu, Zou, Rosset and Hastie (2009), as in scikit-learn's `AdaBoostClassifier`.

    Deviations: there, supervisors are trained in turn on what their predecessors missed, and language models are
    combined token by token; here supervisors are given, and answers are classes.

    Args:
        soft: mix p_m instead of votes.
    """

    name = "ensemw2s"
    version = 1
    title = "EnsemW2S (AdaBoost weights)"
    citation = "Agrawal et al. 2024, arXiv:2410.04571; SAMME, Zhu et al. 2009"
    family = "averaging"
    uses = ("source_scores",)
    grid = product_grid(soft=(True,), learning_rate_times=(3,), epochs_times=(0.3,))

    soft: bool = False

    def start(self, supervision: Supervision) -> None:
        self.weights = boosting_weights(error_rates(supervision), supervision.num_classes)
        given = supervision.soft_labels if self.soft else hard(supervision.soft_labels)
        self.targets = (self.weights[:, None, :, None] * given).sum(2)

    def diagnostics(self) -> dict[str, Tensor]:
        return {"weights": self.weights}


def boosting_weights(errors: Tensor, num_classes: int) -> Tensor:
    """SAMME's weights of classifiers with these error rates, from 0 and divided by their sum: (R, M) -> (R, M)."""
    w = (safe_log(1 - errors) - safe_log(errors) + math.log(num_classes - 1)).clamp_min(0)
    w = w + (w.sum(-1, keepdim=True) == 0)
    return w / w.sum(-1, keepdim=True)
