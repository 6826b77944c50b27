"""What `w2s describe` prints: cards of tasks, canaries, suites and packs (`method_card.py`: of methods); what a suite's
tasks are worth."""

from pathlib import Path

from benchmark.arrays import ArrayTask
from benchmark.base.errors import W2SError, unknown_name
from benchmark.base.text import escape, markdown
from benchmark.cli.method_card import method_card
from benchmark.core.data import Recipe
from benchmark.core.names import CANARIES, REFERENCES
from benchmark.core.registry import METHODS, TASKS
from benchmark.core.suite import Suite, load_suite, suite_names
from benchmark.core.task import Task, TaskCard
from benchmark.packs.sheet import SHEET, Sheet, check_files, read_sheet
from benchmark.reports.worth import worth
from benchmark.results.store import ResultStore


def describe_any(name: str, results: Path | None) -> str:
    """The card of whatever has this name, or the data sheet of the feature pack in this folder.

    Args:
        results: of a method, the folder with what it scores; None for the published one, if it is there.

    Raises:
        W2SError: nothing has it; the nearest name is suggested. Or the pack's sheet can't be read, there are no results
            in the folder that was named, or it was named for what is no method.
    """
    if name in METHODS.names():
        return method_card(METHODS[name], results)
    if results:
        raise W2SError(f"--results: only with --suite, or a method, which '{name}' is not")
    if name in TASKS.names():
        return _task(TASKS[name])
    if name in suite_names():
        return _suite(load_suite(name))
    for kind, names in (("canary", CANARIES), ("reference row", REFERENCES)):
        if name in names:
            return f"{name}: {kind}\n{names[name]}"
    if (Path(name) / SHEET).is_file():
        return _pack(Path(name), read_sheet(Path(name)))
    raise unknown_name("name", name, [*TASKS.names(), *METHODS.names(), *suite_names(), *CANARIES, *REFERENCES])


def overview(kind: str) -> tuple[dict[str, str], list[str]]:
    """All tasks, methods or suites, by name, in a few words; and a line for each plug-in that could not be imported."""
    if kind == "suites":
        return {name: load_suite(name).description for name in suite_names()}, []
    if kind == "tasks":
        return {task.name: f"{task.card.modality}: {task.card.shift}" for task in TASKS}, TASKS.warnings()
    rows = {method.name: f"{method.kind}: {method.title} ({method.citation})" for method in METHODS}
    return rows | {name: f"canary: {what}" for name, what in CANARIES.items()}, METHODS.warnings()


def describe_suite(name: str, results: Path | None) -> str:
    """A suite's tasks by family, and what they are worth by its results where there are any, as Markdown.

    Args:
        results: folder of results; None for the published one, if it is there.

    Raises:
        W2SError: no such suite, or no results in the folder that was named.
    """
    suite = load_suite(name)
    tasks = sorted((TASKS[each] for each in TASKS.select(list(suite.tasks))), key=lambda task: (task.family, task.name))
    headers = ["family", "task", "modality", "K", "M", "shift", "data"]
    lines = [_task_line(task) for task in tasks]
    families = len({task.family for task in tasks})
    parts = [
        f"# Suite `{suite.name}`\n\n{suite.description}. {len(tasks)} tasks of {families} families (tasks on the same "
        f"data).\n\nMade by `w2s describe --suite {suite.name}`, with `--results DIR` of a run there.",
        f"## Tasks\n\n{markdown(headers, lines)}\n\nK: classes; M: supervisors.",
    ]
    folder = results or Path("results") / suite.folder
    if results or folder.is_dir():
        parts.append(worth(ResultStore(folder)))
    return "\n\n".join(parts)


def _task_line(task: Task) -> list[str]:
    card = task.card
    counts = [str(len(card.classes)), str(len(task.supervisors(0)))]
    return [task.family, task.name, card.modality, *counts, escape(card.shift), escape(card.size)]


def _rows(head: str, rows: dict[str, str]) -> str:
    width = max(map(len, rows))
    return "\n".join([head, *(f"  {key:<{width}}  {text}" for key, text in rows.items())])


def _card(card: TaskCard, most: int) -> dict[str, str]:
    """What comes first of a task, and of a pack of it; at `most` so many classes are named."""
    classes = f"{', '.join(card.classes[:most])}{', ...' * (len(card.classes) > most)}"
    rows = {"shift": card.shift, "sources": ", ".join(card.sources), "target": card.target}
    return rows | {"classes": f"{len(card.classes)}: {classes}", "metric": card.metric}


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
        made = {"supervisors": f"{len(members)} (seed 0): {'; '.join(members)}", "student": task.student.title}
    return _rows(
        f"{task.name}: {card.modality} task, version {task.version}",
        {
            **_card(card, 12),
            **made,
            "licence": card.licence + f"; not to be handed on: {card.redistribution}" * bool(card.redistribution),
            "citation": card.citation,
            "requires": card.requires,
            "size": card.size,
            "options": "; ".join(f"{name}: {what}" for name, what in task.options.items()) or "none",
            "available": f"no: {lack}" if (lack := task.missing()) else "yes",
        },
    )


def _pack(folder: Path, sheet: Sheet) -> str:
    card = sheet.card
    try:
        check_files(folder, sheet)
        state = "complete and unaltered"
    except W2SError as error:
        state = str(error)
    members = [
        f"{entry.name}: {entry.recipe['model'].rpartition('.')[2]}, {entry.recipe['size'] or 'all'} examples"
        + ", adversarial" * bool(entry.recipe["adversarial"])
        for entry in sheet.supervisors[0]
    ]
    return _rows(
        f"{folder}: feature pack of {sheet.task}, {card.modality} task, version {sheet.task_version}",
        {
            **_card(card, len(card.classes)),
            "conditions": ", ".join(sheet.conditions),
            "seeds": ", ".join(map(str, sheet.seeds)),
            "supervisors": f"{len(members)} (seed {sheet.seeds[0]}): {'; '.join(members)}",
            "encoder": f"{sheet.encoder} ({', '.join(sheet.outputs)})",
            "sharing": sheet.sharing,
            "citation": card.citation,
            "size": f"{sum(entry.bytes for entry in sheet.files.values()) / 2**20:.1f} MiB; of {card.size}",
            "made with": ", ".join([f"commit {sheet.commit}", sheet.device, *map(" ".join, sheet.libraries.items())]),
            "data": sheet.data_fingerprint,
            "sheet": f"SHA-256 {sheet.sha256}",
            "files": state,
        },
    )


def _suite(suite: Suite) -> str:
    own = [f"{glob}: {_recipe(recipe)}" for glob, recipe in suite.student.by_task]
    return _rows(
        f"{suite.name}: suite",
        {
            "about": suite.description,
            "tasks": ", ".join(TASKS.select(list(suite.tasks))),
            "methods": ", ".join(METHODS.select(list(suite.methods))),
            "conditions": ", ".join(suite.conditions),
            "seeds": str(suite.seeds),
            "student": "; ".join([_recipe(suite.student.default), *own]),
            "options": ", ".join(f"{name}={value}" for name, value in suite.options.items()) or "none",
        },
    )


def _recipe(recipe: Recipe) -> str:
    least = f", {recipe.min_steps:,} steps at least" if recipe.min_steps > 1 else ""
    return f"Adam {recipe.learning_rate:g}, {recipe.epochs} epochs of {recipe.batch_size}{least}"
