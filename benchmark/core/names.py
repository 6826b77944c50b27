"""Names and numbers that all agree on who make results or read them."""

from typing import Literal

# names that no plug-in may take, and what they stand for
CANARIES = {
    "ground_truth": "the truth: the strong ceiling",
    "best_supervisor": "the supervisor that is best on pool-train (an oracle)",
    "oracle_weights": "the supervisors' mixture that fits pool-train best: perfect global weights (an oracle)",
    "random_supervision": "uniform random one-hot labels",
}
REFERENCES = {
    "mean_supervisor": "supervisors' mean score",
    "supervisor_ensemble": "the mean of the supervisors' soft labels, without a student: the weak floor",
    "majority_class": "the most frequent class of pool-train",
}
RESERVED = frozenset({*CANARIES, *REFERENCES})
# made from the truth of the train split, so that the test split alone says how good they are
TRAIN_TRUTH = frozenset({"ground_truth", "best_supervisor", "oracle_weights", "majority_class"})

Family = Literal[  # of methods, by what makes the student's target or loss; "family" alone, elsewhere, is one of tasks
    "averaging",  # the supervisors' answers, or a mean of them by a fixed rule
    "label model",  # a posterior from a model of the supervisors' errors
    "self-reinforcing",  # the student's own predictions are part of its targets
    "noisy-label loss",  # a loss that wrong targets harm less
    "source-free adaptation",  # made for adapting to a domain without the sources' data
    "learned weights",  # whom to believe is learned with the student
]
OTHER = "other"  # in tables: a method that names no family

CONDITIONS = ("ind", "ood")
CONDITION_NAMES = {"ood": "OOD", "ind": "InD"}  # in tables, which show them in this order
CONDITION_TITLES = {"ood": "out of distribution (OOD)", "ind": "in distribution (InD)"}
MODALITIES = ("image", "text", "preference", "series")  # of shipped tasks, in the order of tables
Use = Literal["features", "source_scores"]  # what a method may ask for beside soft labels (`Method.uses`)
GRID_SIZE = 8  # settings that every method may try (`w2s run --tune`): an equal budget
TIMES = ("learning_rate_times", "epochs_times")  # in a setting: multiples of the student's recipe in the suite
ENGINE_VERSION = 2  # raise when the same plan would give other predictions
