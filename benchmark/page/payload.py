"""What the page's script is given: JSON values. Scores, gains and PGR are in percent, seeds in ascending order.

S seeds, M supervisors; a row is a method, a canary or a reference row, by name.
"""

from typing import Literal, NotRequired

from typing_extensions import TypedDict

# mean, half-width of the 95% interval (None where unknown), the text that LEADERBOARD.md has, and 1 if the mean lacks
# tasks or seeds and so is not comparable
Interval = tuple[float, float | None, str, int]
Rank = tuple[int, int]  # from the best to the worst place that is not ruled out
Role = Literal["method", "ablation", "canary", "reference"]


class Setting(TypedDict):
    """Hyperparameters, "part.option" to JSON text, and the tasks that they were used on ([]: on all)."""

    options: dict[str, str]
    tasks: list[str]


class Row(TypedDict):
    """A method, a canary or a reference row.

    `description` and `citation` are the submission's own, or those of the installed method of the same version; ""
    without either. `developed_on` is what a submission states, "" for what is none. `tuned` says which settings its
    scores are of, for how many left-out families; "" where none was chosen so. `cost` is optimizer steps x heads
    relative to `Suite.cost_unit`, on the condition that ranks rows. `family` is the method's, "" where no row of the
    suite names one and for what is no method.
    """

    name: str
    title: str
    role: Role
    kind: str
    family: str
    version: int | None
    ablation_of: str | None
    citation: str
    description: str
    developed_on: str
    tuned: str
    settings: list[Setting]
    cost: float | None


class Card(TypedDict):
    """What the installed task of the same version says of itself."""

    shift: str
    sources: list[str]
    classes: list[str]
    licence: str
    citation: str
    size: str


class Task(TypedDict):
    """A task, whatever the condition. `metric` is in words."""

    name: str
    family: str
    modality: str
    target: str
    broken: bool
    metric: str
    num_classes: int
    supervisors: list[str]
    card: Card | None


class Scores(TypedDict):
    """All rows' results on one (task, condition) by one metric.

    Attributes:
        score, gain, pgr: by row; gain is over `Suite.baseline`. failed: seeds worse than the floor, and how many seeds.
        seeds: (S,) scores, None where a seed is missing.
        supervisors: (S, M) scores.
    """

    score: dict[str, Interval]
    gain: dict[str, Interval]
    pgr: dict[str, Interval]
    failed: dict[str, tuple[int, int]]
    seeds: dict[str, list[float | None]]
    supervisors: list[list[float]]
    chance: float | None


class Weights(TypedDict):
    """Learned weights of the supervisors, (S, M) with None for a seed without, and their rank correlation with the
    supervisors' scores by the task's own metric (mean over seeds; None where it is undefined)."""

    values: list[list[float] | None]
    correlation: float | None


class PayloadCell(TypedDict):
    """One (task, condition). `accuracy` is left out where the task's own metric is accuracy."""

    n_train: int
    n_test: int
    seeds: list[int]
    has_gap: bool | None
    cost: dict[str, int]
    weights: dict[str, Weights]
    own: Scores
    accuracy: NotRequired[Scores]


class View(TypedDict):
    """Means over the tasks of one choice of filters, by row: over families of means over their tasks.

    `plain` are scores whose mean is over tasks, {} where that is the same. `rank` is null for rows that don't compete.
    `heterogeneity` is of the gain: its half-width if families were random draws, and its standard deviation between
    tasks. `ties` says in words who can't be told apart, `extras` who saw or trained more. Variants of a task that break
    one supervisor each are one task.
    """

    tasks: int
    families: int
    gap_tasks: int
    score: dict[str, Interval]
    plain: dict[str, Interval]
    gain: dict[str, Interval]
    pgr: dict[str, Interval]
    failed: dict[str, Interval]
    pgr_mean_supervisor: dict[str, Interval]
    failed_mean_supervisor: dict[str, Interval]
    heterogeneity: dict[str, tuple[str, str]]
    rank: dict[str, Rank | None]
    ties: str
    extras: str


class Curve(TypedDict):
    """Scores of a method on a base task as its supervisors are made worse in one way, level by level."""

    base: str
    kind: str
    method: str
    levels: list[int]
    means: list[float]
    halves: list[float | None]


class Claim(TypedDict):
    """A claim of the RAVEN paper, or a family of methods, and what is found, in words."""

    claim: str
    found: str


class Suite(TypedDict):
    """One folder of results.

    Attributes:
        rows: methods in the leaderboard's order, then canaries and reference rows.
        cells: by "task|condition". views: by "condition|modality|supervisors|metric"; modality "" is all of them,
            supervisors is "sound" (tasks without a broken one; all, if there are no others) or "broken", metric is
            "own" or "accuracy".
        facts: how it was made. problems: what could not be used.
    """

    name: str
    description: str
    conditions: list[str]
    modalities: list[str]
    metrics: list[str]
    baseline: str
    focus: str
    floor: str
    ceiling: str
    cost_unit: str
    rows: list[Row]
    tasks: list[Task]
    cells: dict[str, PayloadCell]
    views: dict[str, View]
    stress: list[Curve]
    claims: list[Claim]
    families: list[Claim]
    facts: dict[str, str]
    problems: list[str]


class Payload(TypedDict):
    """All suites of a page, the first one shown first."""

    suites: list[Suite]
