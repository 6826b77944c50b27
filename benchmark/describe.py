"""What `w2s describe` prints: cards of tasks, methods, canaries and suites, without running anything."""

from __future__ import annotations

import inspect

from benchmark.arrays import ArrayTask
from benchmark.errors import unknown_name
from benchmark.method import Method, method_options
from benchmark.plan import Suite, load_suite, suite_names
from benchmark.registry import CANARIES, METHODS, REFERENCES, TASKS
from benchmark.task import Task


def describe_any(name: str) -> str:
    """The card of whatever has this name.

    Raises:
        W2SError: nothing has it; the nearest name is suggested.
    """
    if name in TASKS.names():
        return _task(TASKS[name])
    if name in METHODS.names():
        return _method(METHODS[name])
    if name in suite_names():
        return _suite(load_suite(name))
    for kind, names in (("canary", CANARIES), ("reference row", REFERENCES)):
        if name in names:
            return f"{name}: {kind}\n{names[name]}"
    raise unknown_name("name", name, [*TASKS.names(), *METHODS.names(), *suite_names(), *CANARIES, *REFERENCES])


def _rows(head: str, rows: dict[str, str]) -> str:
    width = max(map(len, rows))
    return "\n".join([head, *(f"  {key:<{width}}  {text}" for key, text in rows.items())])


def _task(task: Task) -> str:
    card = task.card
    if isinstance(task, ArrayTask):
        made = {"supervisors": f"{task.soft_labels.shape[1]}, given", "features": f"given, {task.features.shape}"}
    else:
        members = [
            f"{type(s.model).__name__} on {'+'.join(s.domains)}, {s.size or 'all'} examples"
            + ", adversarial" * s.adversarial
            for s in task.supervisors(0)
        ]
        made = {
            "supervisors": f"{len(members)} (seed 0): {'; '.join(members)}",
            "encoder": f"{task.encoder.name} ({', '.join(task.encoder.outputs)})",
        }
    return _rows(
        f"{task.name}: {card.modality} task, version {task.version}",
        {
            "shift": card.shift,
            "sources": ", ".join(card.sources),
            "target": card.target,
            "classes": f"{len(card.classes)}: {', '.join(card.classes[:12])}{', ...' * (len(card.classes) > 12)}",
            "metric": card.metric,
            **made,
            "licence": card.licence,
            "citation": card.citation,
            "requires": card.requires,
            "size": card.size,
            "available": task.missing() or "yes",
        },
    )


def _method(method: type[Method]) -> str:
    options = ", ".join(f"{key}={value!r}" for key, value in method_options(method()).items())
    rows = {
        "kind": f"{method.kind}, at least {method.min_supervisors} supervisor(s)",
        "citation": method.citation,
        "options": options or "none",
    }
    if method.ablation_of:
        rows["ablation of"] = method.ablation_of
    return (
        _rows(f"{method.name}: {method.title}, version {method.version}", rows) + f"\n\n{inspect.getdoc(method) or ''}"
    )


def _suite(suite: Suite) -> str:
    student = suite.student
    return _rows(
        f"{suite.name}: suite",
        {
            "about": suite.description,
            "tasks": ", ".join(TASKS.select(list(suite.tasks))),
            "methods": ", ".join(METHODS.select(list(suite.methods), extra=tuple(CANARIES))),
            "conditions": ", ".join(suite.conditions),
            "seeds": str(suite.seeds),
            "student": f"linear head, Adam {student.learning_rate:g}, {student.epochs} epochs of {student.batch_size}",
        },
    )
