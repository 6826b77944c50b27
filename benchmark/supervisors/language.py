"""Weak language models: fine-tuned with LoRA on the source domains' truth, by the harness's one training loop."""

from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from benchmark.assets.pretrained import model_fingerprint
from benchmark.base.errors import W2SError
from benchmark.core.data import Recipe
from benchmark.core.losses import CrossEntropy
from benchmark.core.training import NOWHERE, TrainingData, train
from benchmark.store.checkpoints import Checkpoints
from benchmark.students.language.network import Objective
from benchmark.students.language.student import LanguageModel
from benchmark.supervisors.fitted import Fitted


@dataclass(frozen=True)
class FineTuned:
    """A sequence classifier, or a Bradley-Terry reward model of pairs, with LoRA on all blocks.

    Its fields are as in `LanguageModel` and `Recipe`; the objective is `classifier`, or `reward` for pairs.
    """

    model: str = "minilm-22m"
    objective: Objective = "classifier"
    rank: int = 8
    alpha: int = 16
    max_tokens: int = 128
    learning_rate: float = 2e-3
    epochs: int = 4
    batch_size: int = 8
    name: ClassVar[str] = "benchmark.supervisors.language.FineTuned"
    version: ClassVar[int] = 1
    resumable: ClassVar[bool] = True
    on_device: ClassVar[bool] = True
    libraries: ClassVar[tuple[str, ...]] = ("transformers", "peft")  # peft: in the keys of soft labels made with it

    @property
    def fingerprint(self) -> str:
        return model_fingerprint(self.model)

    def fit(
        self,
        inputs: Any,
        labels: NDArray[np.int64],
        num_classes: int,
        seed: int,
        *,
        checkpoints: Checkpoints = NOWHERE,
        device: str = "cpu",
    ) -> Fitted:
        """Train on n texts, or n pairs (first responses, second responses), and class ids (n,).

        Raises:
            W2SError: the GPU's memory is not enough.
        """
        kind = LanguageModel(self.objective, num_classes, self.model, None, self.rank, self.alpha, self.max_tokens)
        truth = torch.from_numpy(np.eye(num_classes, dtype=np.float32)[labels])[None, None].to(device)
        data = TrainingData({"tokens": [kind.sequences(inputs).to(device)]}, truth, (seed,), kind.start)
        recipe = Recipe(self.learning_rate, self.epochs, self.batch_size)
        trained = None
        with suppress(torch.OutOfMemoryError):
            (trained,) = train([CrossEntropy()], data, recipe, checkpoints=checkpoints)
        if trained is None:
            raise W2SError(
                f"out of GPU memory while supervisor '{self.model}' was trained; run again with a smaller --set "
                f"supervisor_tokens={self.max_tokens // 2} or a smaller --set supervisor_model=..."
            )
        student = trained.student

        def predict_proba(inputs: Any) -> NDArray[np.float64]:
            """Of pairs: softmax of the two rewards."""
            probabilities = student.predict([kind.sequences(inputs).to(device)])
            return probabilities[0, 0].double().cpu().numpy()

        return Fitted(predict_proba)
