"""Training on the posterior of Dawid and Skene's model of annotators."""

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmark.api import product_grid, register_method
from methods.ensemble import Ensemble


@register_method
@dataclass(eq=False)
class DawidSkene(Ensemble):
    """CE(q, posterior): every supervisor is an annotator with a confusion matrix of its own, and EM over the hard votes
    argmax p_m of the train split, started at the vote shares, gives each example a posterior over classes.

    A class for which nobody votes has posterior 0. Each replica's EM sees its own votes only.

    Source: Dawid and Skene (1979), Applied Statistics 28(1), 20-28; EM by crowd-kit (Ustalov, Pavlichenko and
    Tseitlin 2024, JOSS 9(96), 6227).

    Args:
        iterations: at most so many rounds of EM.
        tolerance: EM stops when its objective, per vote, rises by less.
    """

    name = "dawid_skene"
    version = 1
    title = "Dawid-Skene"
    citation = "Dawid and Skene 1979; crowd-kit"
    grid = product_grid(iterations=(3,), learning_rate_times=(3,), epochs_times=(0.3,))

    iterations: int = 100
    tolerance: float = 1e-5

    def aggregate(self, soft_labels: Tensor) -> Tensor:
        votes = soft_labels.max(-1).indices.cpu()
        posteriors = torch.stack([self._posterior(v, soft_labels.shape[-1]) for v in votes])
        return posteriors.to(soft_labels)

    def _posterior(self, votes: Tensor, num_classes: int) -> Tensor:
        """(N, M) class ids -> (N, K) float64."""
        # imported here: crowd-kit brings pandas and scikit-learn with it, which nothing else in a run needs
        import pandas as pd
        from crowdkit.aggregation import DawidSkene as CrowdKit

        examples, supervisors = votes.shape
        table = pd.DataFrame(
            {
                "task": torch.arange(examples).repeat_interleave(supervisors).numpy(),
                "worker": torch.arange(supervisors).repeat(examples).numpy(),
                "label": votes.flatten().numpy(),
            }
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # crowd-kit's calls of pandas
            posterior = CrowdKit(n_iter=self.iterations, tol=self.tolerance).fit_predict_proba(table)
        posterior = posterior.reindex(index=range(examples), columns=range(num_classes), fill_value=0.0)
        rows = torch.from_numpy(posterior.to_numpy(copy=True))
        return rows / rows.sum(-1, keepdim=True)  # crowd-kit clips at 1e-10 after normalising
