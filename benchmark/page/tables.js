// Tables: the leaderboard, a task's, a method's.

/** Value of a view's key, or undefined. */
const viewOf = (suite, condition, modality, supervisors, metric) => suite.views[[condition, modality, supervisors, metric].join("|")];

/** A cell's scores by the chosen metric; a task whose own metric is accuracy has no second set. */
const scoresOf = (cell, metric) => (metric === "accuracy" && cell.accuracy) || cell.own;

const intervalColumn = (key, label, title, get, best = Math.max) => ({
  key, label, title, best, ascending: best === Math.min, interval: get, value: (row) => get(row)?.[0] ?? null, partial: (row) => Boolean(get(row)?.[3]),
});
const plainColumn = (key, label, title, value, text, ascending = true) => ({ key, label, title, value, text, ascending });

/** The leaderboard's columns for the chosen filters: means of each modality, or each task of the chosen one. */
function columnsOf(suite, state, tasks) {
  const { condition, modality, metric, supervisors } = state;
  const view = viewOf(suite, condition, modality, supervisors, metric);
  const where = CONDITION[condition];
  const columns = [];
  if (Object.values(view.rank).some((rank) => rank !== null)) {
    columns.push(plainColumn("rank", "rank", "1 + number of methods that are significantly better",
      (row) => view.rank[row.name] ?? null, (row) => String(view.rank[row.name])));
  }
  columns.push(plainColumn("name", "method", "", (row) => row.title.toLowerCase(), null));
  columns.push(intervalColumn("score", `mean of ${plural(view.tasks, "task")}`, `Mean score, ${where}`, (row) => view.score[row.name]));
  columns.push({ ...intervalColumn("gain", `minus ${suite.baseline}`, `Paired difference from ${suite.baseline}, in points`, (row) => view.gain[row.name]), best: null });
  if (modality) {
    for (const task of tasks) {
      const cell = suite.cells[`${task.name}|${condition}`];
      columns.push(intervalColumn(`task:${task.name}`, task.name, `${task.name}, ${where}`, (row) => cell && scoresOf(cell, metric).score[row.name]));
    }
  } else if (suite.modalities.length > 1 || supervisors === "all") {
    const part = supervisors === "all" ? "sound" : supervisors;
    for (const name of suite.modalities) {
      const means = viewOf(suite, condition, name, part, metric);
      const note = part === "sound" ? ", without tasks that have a broken supervisor" : "";
      if (means) columns.push(intervalColumn(`modality:${name}`, name, `Mean of ${plural(means.tasks, `${name} task`)}${note}`, (row) => means.score[row.name]));
    }
    const broken = supervisors === "all" && viewOf(suite, condition, "", "broken", metric);
    if (broken) columns.push(intervalColumn("broken", "broken supervisor", `Mean of ${plural(broken.tasks, "task")} with a broken supervisor`, (row) => broken.score[row.name]));
  }
  columns.push(intervalColumn("pgr", "PGR", `Share of the gap between floor and ceiling that is closed, in percent; defined on ${view.gap_tasks} of ${plural(view.tasks, "task")}`, (row) => view.pgr[row.name]));
  columns.push(intervalColumn("failed", "failures", "Share of runs that end worse than the floor, in percent", (row) => view.failed[row.name], Math.min));
  columns.push(plainColumn("cost", "cost", `Optimizer steps × heads, relative to ${suite.cost_unit}`, (row) => row.cost, (row) => `${row.cost.toFixed(2)}×`));
  return columns;
}

/** Rows in the order of a column; incomparable means after the others, unknown values last, both ways round. */
function sorted(rows, column, descending) {
  const sign = descending ? -1 : 1;
  const place = (row) => (column.value(row) === null ? 2 : column.partial?.(row) ? 1 : 0);
  return [...rows].sort((a, b) => {
    if (place(a) !== place(b)) return place(a) - place(b);
    const [one, two] = [column.value(a), column.value(b)];
    return (one === two ? 0 : one < two ? -sign : sign) || (a.name < b.name ? -1 : 1);
  });
}

/** Names of the methods that hold a column's best mean, among those that compete. */
function bestOf(column, rows) {
  const known = rows.filter((row) => row.role === "method" && column.value(row) !== null && !column.partial(row));
  const target = known.length ? column.best(...known.map(column.value)) : null;
  return new Set(known.filter((row) => column.value(row) === target).map((row) => row.name));
}

function headerCell(column, state, sort) {
  const active = state.sort === column.key;
  const arrow = h("span", { class: "arrow", "aria-hidden": "true" }, active ? (state.descending ? "↓" : "↑") : "");
  return h("th", { scope: "col", class: column.interval || column.key === "cost" ? "num" : column.key, "aria-sort": active ? (state.descending ? "descending" : "ascending") : "none" },
    h("button", { type: "button", title: column.title || null, "data-focus": `sort:${column.key}`, on: { click: () => sort(column) } }, column.label, arrow));
}

const ROLE = { ablation: "ablation", canary: "canary", reference: "reference row" };

function methodButton(row, open) {
  return h("button", { type: "button", class: "link", "data-focus": `open:${row.name}`, on: { click: () => open(row.name) } }, row.title);
}

/** The leaderboard. actions: sort(column), open(name), mark(name), markOf(name). */
function leaderboard(suite, state, rows, columns, actions) {
  const view = viewOf(suite, state.condition, state.modality, state.supervisors, state.metric);
  const score = columns.find((column) => column.key === "score");
  const floor = view.score[suite.floor]?.[0], ceiling = view.score[suite.ceiling]?.[0];
  const domain = extent([floor, ceiling, ...ends(rows.map((row) => score.interval(row)))]);
  const best = new Map(columns.filter((column) => column.best).map((column) => [column.key, bestOf(column, suite.rows)]));
  const cells = (row) => columns.flatMap((column) => {
    if (column.key === "name") {
      return h("th", { scope: "row", class: "name" }, h("div", {}, markButton(row, actions), h("span", {}, methodButton(row, actions.open),
        h("small", {}, h("code", {}, row.name), ROLE[row.role] && ` ${ROLE[row.role]}`))));
    }
    if (!column.interval) return h("td", { class: "num" }, column.value(row) === null ? "–" : column.text(row));
    const interval = column.interval(row);
    const cell = h("td", { class: "num" }, interval ? figureText(interval, best.get(column.key)?.has(row.name)) : h("span", { class: "none" }, "–"));
    return column.key === "score" ? [h("td", { class: "plot" }, strip(row, interval, domain, floor, ceiling, actions.markOf(row.name))), cell] : cell;
  });
  const heads = columns.flatMap((column) => {
    const head = headerCell(column, state, actions.sort);
    return column.key === "score" ? [h("th", { scope: "col", class: "plot" }, h("span", {}, "floor to ceiling")), head] : head;
  });
  return scrollBox("Leaderboard", h("table", { class: "leaderboard" },
    h("thead", {}, h("tr", {}, heads)),
    h("tbody", {}, rows.map((row) => h("tr", { class: row.role, "data-row": row.name }, cells(row))))));
}

/** Marks a method in all figures; its shape shows which one it is. */
function markButton(row, { mark, markOf }) {
  const i = markOf(row.name);
  return h("button", {
    type: "button", class: "mark", "aria-pressed": String(i >= 0), "aria-label": `Mark ${row.title} in the figures`, title: "Mark in the figures",
    "data-focus": `mark:${row.name}`, on: { click: () => mark(row.name) },
  }, s("svg", { width: 16, height: 16, viewBox: "0 0 16 16", "aria-hidden": "true" }, glyph(8, 8, i)));
}

/** All rows on one task and condition. */
function taskTable(suite, task, condition, metric, rows, open) {
  const cell = suite.cells[`${task.name}|${condition}`];
  const scores = scoresOf(cell, metric);
  const score = intervalColumn("score", "score", "", (row) => scores.score[row.name]);
  const best = bestOf(score, suite.rows);
  const order = sorted(rows.filter((row) => scores.score[row.name]), score, true);
  const value = (interval, name) => h("td", { class: "num" }, interval ? figureText(interval, name && best.has(name)) : "–");
  return scrollBox(`${task.name}, all methods`, h("table", {},
    h("thead", {}, h("tr", {}, ["method", "score", `minus ${suite.baseline}`, "PGR", "failed seeds", "steps × heads"].map((text, i) => h("th", { scope: "col", class: i ? "num" : null }, text)))),
    h("tbody", {}, order.map((row) => h("tr", { class: row.role }, h("th", { scope: "row" }, methodButton(row, open)),
      value(scores.score[row.name], row.name), value(scores.gain[row.name]), value(scores.pgr[row.name]),
      h("td", { class: "num" }, scores.failed[row.name] ? scores.failed[row.name].join("/") : "–"),
      h("td", { class: "num" }, cell.cost[row.name]?.toLocaleString("en") ?? "–"))))));
}

/** Facts as a list of terms; entries whose text is empty are left out. */
const factList = (facts) => h("dl", {}, Object.entries(facts).filter(([, text]) => text && text.length !== 0).map(([term, text]) => h("div", {}, h("dt", {}, term), h("dd", {}, text))));

/** A task in words. */
function taskFacts(suite, task, condition) {
  const cell = suite.cells[`${task.name}|${condition}`], card = task.card;
  const classes = card ? `${task.num_classes}: ${card.classes.slice(0, 12).join(", ")}${card.classes.length > 12 ? ", …" : ""}` : String(task.num_classes);
  const means = task.supervisors.map((name, m) => {
    const scores = cell.own.supervisors.map((seed) => seed[m]);
    return `${name} ${(scores.reduce((a, b) => a + b, 0) / scores.length).toFixed(1)}`;
  });
  const reference = (name) => cell.own.score[name]?.[2];
  return factList({
    shift: card?.shift, sources: card?.sources.join(", "), target: task.target, classes, metric: task.metric,
    "floor and ceiling": `${reference(suite.floor)} and ${reference(suite.ceiling) ?? "not run"}${cell.has_gap === false ? "; too close for PGR" : ""}`,
    "chance (1/K)": cell.own.chance === null ? "" : cell.own.chance.toFixed(1),
    supervisors: `${means.join("; ")} (mean over seeds)`,
    "pool, train and test": `${cell.n_train.toLocaleString("en")} and ${cell.n_test.toLocaleString("en")} examples`,
    data: card?.size, licence: card ? card.licence : "not known here: the task is not installed, or is of another version", citation: card && citation(card.citation),
  });
}

/** All of a method's numbers: a line for each task and condition, every seed. */
function methodTable(suite, row, metric) {
  const count = Math.max(...Object.values(suite.cells).map((cell) => cell.seeds.length));
  const heads = ["task", "condition", "score", `minus ${suite.baseline}`, "PGR", "failed seeds", "steps × heads", ...Array.from({ length: count }, (_, i) => `seed ${i + 1} of ${count}`)];
  const lines = suite.tasks.flatMap((task) => suite.conditions.map((condition) => {
    const cell = suite.cells[`${task.name}|${condition}`];
    const scores = cell && scoresOf(cell, metric);
    if (!scores?.score[row.name]) return cell && h("tr", {}, h("th", { scope: "row" }, task.name), h("td", {}, CONDITION[condition]), h("td", { class: "num" }, "not run"));
    const value = (interval) => h("td", { class: "num" }, interval ? figureText(interval) : "–");
    return h("tr", {}, h("th", { scope: "row" }, task.name), h("td", {}, CONDITION[condition]),
      value(scores.score[row.name]), value(scores.gain[row.name]), value(scores.pgr[row.name]),
      h("td", { class: "num" }, scores.failed[row.name] ? scores.failed[row.name].join("/") : "–"),
      h("td", { class: "num" }, cell.cost[row.name]?.toLocaleString("en") ?? "–"),
      scores.seeds[row.name].map((score) => h("td", { class: "num quiet" }, score === null ? "–" : score.toFixed(1))));
  }));
  return scrollBox("All numbers of the method", h("table", {},
    h("thead", {}, h("tr", {}, heads.map((text, i) => h("th", { scope: "col", class: i > 1 ? "num" : null }, text)))), h("tbody", {}, lines)));
}

/** Means of a method, OOD and InD beside one another. */
function methodMeans(suite, row, metric) {
  const views = suite.conditions.map((condition) => [condition, viewOf(suite, condition, "", "all", metric)]);
  const line = (label, get) => h("tr", {}, h("th", { scope: "row" }, label), views.map(([, view]) => {
    const interval = get(view)[row.name];
    return h("td", { class: "num" }, interval ? figureText(interval) : "–");
  }));
  return h("table", { class: "means" },
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "mean over tasks"), views.map(([condition, view]) => h("th", { scope: "col", class: "num" }, `${CONDITION[condition]}, ${plural(view.tasks, "task")}`)))),
    h("tbody", {}, line("score", (view) => view.score), line(`minus ${suite.baseline}`, (view) => view.gain), line("PGR", (view) => view.pgr), line("failures, %", (view) => view.failed)));
}

/** Settings, a table for each distinct one. */
function settingTables(row) {
  return row.settings.map((setting) => [
    setting.tasks.length ? h("p", { class: "quiet" }, `On ${setting.tasks.join(", ")}:`) : null,
    h("table", { class: "settings" }, h("tbody", {}, Object.entries(setting.options).map(([name, text]) =>
      h("tr", {}, h("th", { scope: "row" }, h("code", {}, name)), h("td", {}, h("code", {}, text)))))),
  ]);
}
