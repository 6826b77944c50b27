// @ts-check
// Tables: the leaderboard, a task's, a method's.

/** The means for a choice of filters, if there are any. @type {(suite: Suite, condition: string, modality: string, supervisors: string, metric: string) => View | undefined} */
const viewOf = (suite, ...key) => suite.views[key.join("|")];

const families = (/** @type {View} */ view) => (view.families === 1 ? "1 family" : `${view.families} families`);
/** Whether the mean over tasks is another than that over families. */
const hasPlain = (/** @type {View} */ view) => Object.keys(view.plain).length > 0;

const cellOf = (/** @type {Suite} */ suite, /** @type {Task} */ task, /** @type {string} */ condition) => suite.cells[`${task.name}|${condition}`];

/** A cell's scores by the chosen metric; a task whose own metric is accuracy has no second set. @type {(cell: PayloadCell, metric: string) => Scores} */
const scoresOf = (cell, metric) => (metric === "accuracy" && cell.accuracy) || cell.own;

/** @type {(key: string, label: string, title: string, get: (row: Row) => Interval | undefined, best?: IntervalColumn["best"]) => IntervalColumn} */
const intervalColumn = (key, label, title, get, best = Math.max) => ({
  key, label, title, best, ascending: best === Math.min, interval: get, value: (row) => get(row)?.[0] ?? null, partial: (row) => Boolean(get(row)?.[3]),
});
/** @type {(key: string, label: string, title: string, value: PlainColumn["value"], text?: PlainColumn["text"]) => PlainColumn} */
const plainColumn = (key, label, title, value, text = () => "") => ({ key, label, title, value, text, ascending: true, interval: null, partial: () => false });

const rankText = (/** @type {[number, number]} */ [best, worst]) => (best < worst ? `${best}–${worst}` : String(best));

/** The leaderboard's columns for the chosen filters: means of each modality, or each task of the chosen one.
 *  @type {(suite: Suite, view: View, state: State, tasks: TaskCell[]) => Column[]} */
function columnsOf(suite, view, { condition, modality, metric, supervisors }, tasks) {
  const where = CONDITION[condition];
  /** @type {Column[]} */
  const columns = [];
  if (Object.values(view.rank).some((rank) => rank !== null)) {
    columns.push(plainColumn("rank", "rank", "From 1 + number of methods that are significantly better to their number less those that are significantly worse",
      (row) => view.rank[row.name]?.[0] ?? null, (row) => rankText(/** @type {[number, number]} */ (view.rank[row.name]))));
  }
  columns.push(plainColumn("name", "method", "", (row) => row.title.toLowerCase()));
  if (suite.rows.some((row) => row.family)) {
    columns.push(plainColumn("family", "family", "Family of methods: what makes the student’s target or loss", (row) => row.family || null, (row) => row.family));
  }
  columns.push(intervalColumn("score", `mean of ${plural(view.tasks, "task")}`, `Mean score, ${where}: over ${families(view)}, of means over their tasks`, (row) => view.score[row.name]));
  if (hasPlain(view)) {
    columns.push(intervalColumn("plain", "plain mean", `Mean score, ${where}, over tasks: a family with more of them counts more`, (row) => view.plain[row.name]));
  }
  columns.push(intervalColumn("gain", `minus ${suite.baseline}`, `Paired difference from ${suite.baseline}, in points`, (row) => view.gain[row.name], null));
  if (modality) {
    columns.push(...tasks.map(({ task, cell }) =>
      intervalColumn(`task:${task.name}`, task.name, `${task.name}, ${where}`, (row) => scoresOf(cell, metric).score[row.name])));
  } else if (suite.modalities.length > 1) {
    for (const name of suite.modalities) {
      const means = viewOf(suite, condition, name, supervisors, metric);
      if (means) columns.push(intervalColumn(`modality:${name}`, name, `Mean of ${plural(means.tasks, `${name} task`)} in ${families(means)}`, (row) => means.score[row.name]));
    }
  }
  columns.push(
    intervalColumn("pgr", "PGR", `Share of the gap between floor and ceiling that is closed, in percent; defined on ${view.gap_tasks} of ${plural(view.tasks, "task")}`, (row) => view.pgr[row.name]),
    intervalColumn("failed", "failures", "Share of a task’s seeds that end worse than the floor, in percent", (row) => view.failed[row.name], Math.min),
    plainColumn("cost", "cost", `Optimizer steps × heads, relative to ${suite.cost_unit}`, (row) => row.cost, (row) => `${row.cost?.toFixed(2)}×`));
  return columns;
}

/** Rows in the order of a column; incomparable means after the others, unknown values last, both ways round. @type {(rows: Row[], column: Column, descending: boolean) => Row[]} */
function sorted(rows, column, descending) {
  const sign = descending ? -1 : 1;
  const place = (/** @type {Row} */ row) => (column.value(row) === null ? 2 : column.partial(row) ? 1 : 0);
  return [...rows].sort((a, b) => {
    const one = column.value(a) ?? 0, two = column.value(b) ?? 0;
    return place(a) - place(b) || (one === two ? 0 : one < two ? -sign : sign) || (a.name < b.name ? -1 : 1);
  });
}

/** Names of the methods that hold a column's best mean, among those that compete. @type {(column: IntervalColumn, rows: Row[]) => Set<string>} */
function bestOf({ best, value, partial }, rows) {
  const known = rows.flatMap((row) => (row.role === "method" && !partial(row) ? [{ name: row.name, mean: value(row) ?? NaN }] : []));
  const target = best?.(...known.map(({ mean }) => mean).filter(Number.isFinite));
  return new Set(known.filter(({ mean }) => mean === target).map(({ name }) => name));
}

function headerCell(/** @type {Column} */ column, /** @type {State} */ state, /** @type {(column: Column) => void} */ sort) {
  const order = state.sort !== column.key ? "none" : state.descending ? "descending" : "ascending";
  return h("th", { scope: "col", class: column.interval || column.key === "cost" ? "num" : column.key, "aria-sort": order },
    h("button", { type: "button", title: column.title || null, "data-focus": `sort:${column.key}`, click: () => sort(column) },
      column.label, h("span", { class: "arrow", "aria-hidden": "true" }, { none: "", descending: "↓", ascending: "↑" }[order])));
}

/** @type {(row: Row, open: (name: string) => void) => HTMLElement} */
const methodButton = (row, open) => h("button", { type: "button", class: "link", "data-focus": `open:${row.name}`, click: () => open(row.name) }, row.title);

/** A cell with "63.6 ± 4.1", the half-width set back, and a true minus. @type {(interval: Interval | undefined, best?: boolean) => HTMLElement} */
function intervalCell(interval, best = false) {
  if (!interval) return h("td", { class: "num" }, h("span", { class: "none" }, "–"));
  const [mean, ...rest] = interval[2].replace(/^-/, "−").split(" ");
  return h("td", { class: "num" }, h(best ? "b" : "span", { class: "mean" }, mean), " ", h("span", { class: "half" }, rest.join(" ")));
}

/** A table's head: the columns from the `numbers`-th on hold numbers. @type {(heads: string[], numbers: number) => HTMLElement} */
const tableHead = (heads, numbers) => h("thead", {}, h("tr", {}, heads.map((text, i) => h("th", { scope: "col", class: i >= numbers ? "num" : null }, text))));

/** The leaderboard. @type {(suite: Suite, view: View, state: State, rows: Row[], columns: Column[], actions: Actions) => HTMLElement} */
function leaderboard(suite, view, state, rows, columns, { sort, open, mark, markOf }) {
  const floor = view.score[suite.floor]?.[0], ceiling = view.score[suite.ceiling]?.[0];
  const domain = extent([floor, ceiling, ...ends(rows.map((row) => view.score[row.name]))]);
  const best = new Map(columns.map((column) => [column, column.interval && bestOf(column, suite.rows)]));
  const cell = (/** @type {Row} */ row, /** @type {Column} */ column) => {
    if (column.key === "name") {
      const role = { method: null, ablation: " ablation", canary: " canary", reference: " reference row" }[row.role];
      return h("th", { scope: "row", class: "name" }, h("div", {}, markButton(row, markOf(row.name), mark), h("span", {}, methodButton(row, open),
        h("small", {}, h("code", {}, row.name), role))));
    }
    if (!column.interval) return h("td", { class: column.key === "family" ? "family" : "num" }, column.value(row) === null ? "–" : column.text(row));
    const interval = column.interval(row);
    return [column.key === "score" && h("td", { class: "plot" }, strip(row, interval, domain, floor, ceiling, markOf(row.name))),
      intervalCell(interval, best.get(column)?.has(row.name))];
  };
  return scrollBox("Leaderboard", h("table", { class: "leaderboard" },
    h("thead", {}, h("tr", {}, columns.map((column) =>
      [column.key === "score" && h("th", { scope: "col", class: "plot" }, h("span", {}, "floor to ceiling")), headerCell(column, state, sort)]))),
    h("tbody", {}, rows.map((row) => h("tr", { class: row.role, "data-row": row.name }, columns.map((column) => cell(row, column)))))));
}

/** Marks a method in all figures; its shape shows which one it is. @type {(row: Row, i: number, mark: (name: string) => void) => HTMLElement} */
const markButton = (row, i, mark) => h("button", {
  type: "button", class: "mark", "aria-pressed": String(i >= 0), "aria-label": `Mark ${row.title} in the figures`, title: "Mark in the figures",
  "data-focus": `mark:${row.name}`, click: () => mark(row.name),
}, decoration(16, 16, null, glyph(8, 8, i)));

/** Heads and cells of a row's numbers on one task and condition. @type {(suite: Suite) => string[]} */
const numberHeads = (suite) => ["score", `minus ${suite.baseline}`, "PGR", "failed seeds", "steps × heads"];
const numberCells = (/** @type {PayloadCell} */ cell, /** @type {Scores} */ scores, /** @type {string} */ name, best = false) => [
  intervalCell(scores.score[name], best), intervalCell(scores.gain[name]), intervalCell(scores.pgr[name]),
  ...[scores.failed[name]?.join("/"), cell.cost[name]?.toLocaleString("en")].map((text) => h("td", { class: "num" }, text ?? "–")),
];

/** All rows on one task and condition. @type {(suite: Suite, place: TaskCell, metric: string, rows: Row[], open: (name: string) => void) => HTMLElement} */
function taskTable(suite, { task, cell }, metric, rows, open) {
  const scores = scoresOf(cell, metric);
  const score = intervalColumn("score", "score", "", (row) => scores.score[row.name]);
  const best = bestOf(score, suite.rows);
  return scrollBox(`${task.name}, all methods`, h("table", {}, tableHead(["method", ...numberHeads(suite)], 1),
    h("tbody", {}, sorted(rows.filter((row) => scores.score[row.name]), score, true).map((row) =>
      h("tr", { class: row.role }, h("th", { scope: "row" }, methodButton(row, open)), numberCells(cell, scores, row.name, best.has(row.name)))))));
}

/** Facts as a list of terms; those without a text are left out. @type {(facts: { [term: string]: Child }) => HTMLElement} */
const factList = (facts) => h("dl", {}, Object.entries(facts).map(([term, text]) => text && h("div", {}, h("dt", {}, term), h("dd", {}, text))));

/** A task in words. @type {(suite: Suite, place: TaskCell) => HTMLElement} */
function taskFacts(suite, { task, cell }) {
  const { card } = task;
  const means = task.supervisors.map((name, m) => `${name} ${meanOf(cell.own.supervisors.map((seed) => seed[m])).toFixed(1)}`);
  const reference = (/** @type {string} */ name) => cell.own.score[name]?.[2];
  return factList({
    family: task.family, shift: card?.shift, sources: card?.sources.join(", "), target: task.target,
    classes: card ? `${task.num_classes}: ${card.classes.slice(0, 12).join(", ")}${card.classes.length > 12 ? ", …" : ""}` : String(task.num_classes),
    metric: task.metric,
    "floor and ceiling": `${reference(suite.floor)} and ${reference(suite.ceiling) ?? "not run"}${cell.has_gap === false ? "; too close for PGR" : ""}`,
    "chance (1/K)": cell.own.chance?.toFixed(1), supervisors: `${means.join("; ")} (mean over seeds)`,
    "pool, train and test": `${cell.n_train.toLocaleString("en")} and ${cell.n_test.toLocaleString("en")} examples`,
    data: card?.size, licence: card ? card.licence : "not known here: the task is not installed, or is of another version", citation: card && citation(card.citation),
  });
}

/** All of a method's numbers: a line for each task and condition, every seed. @type {(suite: Suite, row: Row, metric: string) => HTMLElement} */
function methodTable(suite, row, metric) {
  const count = Math.max(...Object.values(suite.cells).map((cell) => cell?.seeds.length ?? 0));
  const heads = ["task", "condition", ...numberHeads(suite), ...Array.from({ length: count }, (_, i) => `seed ${i + 1} of ${count}`)];
  const lines = suite.tasks.flatMap((task) => suite.conditions.map((condition) => {
    const cell = cellOf(suite, task, condition);
    if (!cell) return null;
    const scores = scoresOf(cell, metric);
    return h("tr", {}, h("th", { scope: "row" }, task.name), h("td", {}, CONDITION[condition]),
      !scores.score[row.name] ? h("td", { class: "num" }, "not run") : [numberCells(cell, scores, row.name),
        scores.seeds[row.name]?.map((score) => h("td", { class: "num quiet" }, score === null ? "–" : score.toFixed(1)))]);
  }));
  return scrollBox("All numbers of the method", h("table", {}, tableHead(heads, 2), h("tbody", {}, lines)));
}

/** Means of a method, OOD and InD beside one another. @type {(suite: Suite, row: Row, metric: string) => HTMLElement} */
function methodMeans(suite, row, metric) {
  const views = suite.conditions.flatMap((condition) => ["sound", "broken"].flatMap((supervisors) => {
    const view = viewOf(suite, condition, "", supervisors, metric);
    return view ? [{ head: `${CONDITION[condition]}, ${plural(view.tasks, "task")}${supervisors === "broken" ? " with a broken supervisor" : ""}`, view }] : [];
  }));
  /** @type {(label: string, key: "score" | "plain" | "gain" | "pgr" | "failed" | "pgr_mean_supervisor" | "failed_mean_supervisor") => HTMLElement} */
  const line = (label, key) => h("tr", {}, h("th", { scope: "row" }, label), views.map(({ view }) => intervalCell(view[key][row.name])));
  return scrollBox("Means of the method", h("table", { class: "means" },
    tableHead(["mean over families", ...views.map(({ head }) => head)], 1),
    h("tbody", {}, line("score", "score"),
      views.some(({ view }) => hasPlain(view)) && line("score, plain mean", "plain"), line(`minus ${suite.baseline}`, "gain"),
      ["its half-width if families were random draws", "its standard deviation between tasks"].map((label, i) => h("tr", {}, h("th", { scope: "row" }, label),
        views.map(({ view }) => h("td", { class: "num" }, view.heterogeneity[row.name]?.[i] ?? "–")))),
      line("PGR", "pgr"), line("PGR from the mean supervisor", "pgr_mean_supervisor"),
      line("failures, %", "failed"), line("below the mean supervisor, %", "failed_mean_supervisor"))));
}

/** Settings, a table for each distinct one. @type {(row: Row) => Child[]} */
const settingTables = (row) => row.settings.map(({ tasks, options }) => [
  tasks.length > 0 && h("p", { class: "quiet" }, `On ${tasks.join(", ")}:`),
  h("table", { class: "settings" }, h("tbody", {}, Object.entries(options).map(([name, text]) =>
    h("tr", {}, h("th", { scope: "row" }, h("code", {}, name)), h("td", {}, h("code", {}, text)))))),
]);
