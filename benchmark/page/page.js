// @ts-check
// What is shown, and what changes it. The state's filters also stand in the address, so that a view can be linked to.

/** @type {Payload} */
const { suites } = JSON.parse(byId("payload").textContent);
/** @type {State} */
const state = {
  suite: 0, modality: "", condition: "", metric: "", supervisors: "sound", canaries: false, ablations: false,
  find: "", sort: "score", descending: true, marks: [], open: new Set(), method: "",
};
const current = () => suites[state.suite];
const rowOf = (/** @type {string} */ name) => current().rows.find((row) => row.name === name);
const markOf = (/** @type {string} */ name) => state.marks.indexOf(name);
const MOST_MARKS = 4;
const detail = /** @type {HTMLDialogElement} */ (byId("detail"));

// --- filters ---------------------------------------------------------------------------------------------------------

/** Whether some tasks have a broken supervisor and some have none. @type {(suite: Suite) => boolean} */
const mixed = ({ tasks }) => tasks.some((task) => task.broken) && tasks.some((task) => !task.broken);

/** Filters with the [value, label] that each may have in this suite, the default first. @type {(suite: Suite) => [Filter, string, [string, string][]][]} */
function filters(suite) {
  const { conditions, modalities, metrics } = suite;
  return [
    ["condition", "Condition", conditions.map((name) => [name, CONDITION[name]])],
    ["modality", "Modality", [["", "all"], .../** @type {[string, string][]} */ (modalities.length > 1 ? modalities.map((name) => [name, name]) : [])]],
    ["supervisors", "Supervisors", mixed(suite) ? [["sound", "none broken"], ["broken", "one broken"]] : [["sound", "all tasks"]]],
    ["metric", "Metric", metrics.map((name) => [name, name === "own" ? "the task’s own" : name])],
  ];
}

/** Filters that this suite has, with means, and its marks. */
function fit() {
  for (const [name, , options] of filters(current())) {
    if (!options.some(([value]) => value === state[name])) state[name] = options[0][0];
  }
  if (!viewNow()) Object.assign(state, { supervisors: "sound", modality: "" });
  state.marks = state.marks.filter(rowOf);
}

const viewNow = () => /** @type {View} */ (viewOf(current(), state.condition, state.modality, state.supervisors, state.metric));

/** A button that stays pressed. @type {(type: "radio" | "checkbox", name: string, value: string, checked: boolean, label: string, choose: (checked: boolean) => void) => HTMLElement} */
function chip(type, name, value, checked, label, choose) {
  const input = h("input", { type, name, value, checked, change: () => choose(input.checked) });
  return h("label", { class: "chip" }, input, h("span", {}, label));
}

/** @type {(name: "canaries" | "ablations", label: string) => HTMLElement} */
const check = (name, label) => chip("checkbox", name, "on", state[name], label, (checked) => change({ [name]: checked }));

function drawFilters() {
  const find = h("input", { type: "search", name: "find", value: state.find, placeholder: "a method", input: () => change({ find: find.value }) });
  show(byId("filters"),
    filters(current()).map(([name, label, options]) => options.length > 1 && h("fieldset", {}, h("legend", {}, label),
      options.map(([value, text]) => chip("radio", name, value, state[name] === value, text, () => change({ [name]: value }))))),
    h("fieldset", {}, h("legend", {}, "Also show"), check("canaries", "canaries and reference rows"),
      current().rows.some((row) => row.role === "ablation") && check("ablations", "ablations")),
    h("label", { class: "find" }, h("span", {}, "Find"), find));
}

function visibleRows() {
  const wanted = state.find.trim().toLowerCase();
  const roles = { method: true, ablation: state.ablations, canary: state.canaries, reference: state.canaries };
  return current().rows.filter((row) => roles[row.role] && `${row.title} ${row.name}`.toLowerCase().includes(wanted));
}

/** Tasks that were run under the chosen condition. @type {() => TaskCell[]} */
const tasksNow = () => current().tasks.flatMap((task) => {
  const cell = cellOf(current(), task, state.condition);
  return cell ? [{ task, cell }] : [];
});

const visibleTasks = () => tasksNow().filter(({ task }) => (!state.modality || task.modality === state.modality)
  && (!mixed(current()) || task.broken === (state.supervisors === "broken")));

// --- drawing ---------------------------------------------------------------------------------------------------------

function change(/** @type {Partial<State>} */ changes) {
  Object.assign(state, changes);
  fit();
  draw();
}

const mark = (/** @type {string} */ name) => change({ marks: markOf(name) >= 0 ? state.marks.filter((other) => other !== name) : [...state.marks, name].slice(-MOST_MARKS) });
const sort = (/** @type {Column} */ { key, ascending }) => change({ sort: key, descending: state.sort === key ? !state.descending : !ascending });

function draw() {
  const focused = document.activeElement?.getAttribute("data-focus");
  const suite = current(), view = viewNow(), rows = visibleRows(), tasks = visibleTasks();
  const columns = columnsOf(suite, view, state, tasks);
  const column = columns.find(({ key }) => key === state.sort) ?? /** @type {Column} */ (columns.find(({ key }) => key === "score"));
  const ordered = sorted(rows, column, state.descending);
  const scrolled = byId("table").firstElementChild?.scrollLeft ?? 0;
  show(byId("about"), h("b", {}, `Suite ${suite.name}`), suite.description && `: ${suite.description}.`);
  byId("status").textContent = `${plural(rows.length, "row")}; ${where()}.`;
  const table = leaderboard(suite, view, { ...state, sort: column.key }, ordered, columns, { sort, open: openMethod, mark, markOf });
  const said = [view.ties, view.extras].filter(Boolean).map((text) => h("p", { class: "quiet" }, prose(text)));
  show(byId("table"), table, ...said);
  table.scrollLeft = scrolled;
  drawLegend();
  drawFigures(suite, ordered, tasks);
  drawTasks(suite, rows, tasks);
  if (focused) /** @type {HTMLElement | null} */ (document.querySelector(`[data-focus="${CSS.escape(focused)}"]`))?.focus();
  keepAddress();
}

const metricName = () => (state.metric === "own" ? "each task’s own metric" : state.metric);

/** The filters in words. */
function where() {
  const broken = mixed(current()) ? [state.supervisors === "broken" ? "with a broken supervisor" : "no supervisor broken"] : [];
  return [plural(visibleTasks().length, state.modality ? `${state.modality} task` : "task"), CONDITION[state.condition], ...broken, metricName()].join(", ");
}

function drawLegend() {
  /** @type {(text: string | undefined, ...children: Child[]) => Child} */
  const entry = (text, ...children) => h("span", {}, decoration(18, 16, null, children), text);
  show(byId("legend"), h("p", { class: "legend" }, state.marks.map((name, i) => entry(rowOf(name)?.title, glyph(9, 8, i))), entry("other methods", glyph(9, 8, -1)),
    entry("from floor (supervisors’ ensemble) to ceiling (trained on the truth)", band((x) => x, 1, 14, 2, 16))),
  h("p", { class: "quiet" }, `Up to ${MOST_MARKS} methods are marked with the buttons before their names; whiskers are 95% intervals. The filters above hold here too. Click a point to open its method.`));
}

/** @type {(title: string, caption: string, content: Child, name?: string) => HTMLElement} */
const figure = (title, caption, content, name = "") => h("figure", { class: name }, h("h3", {}, title), content, h("figcaption", {}, caption));
const panel = (/** @type {string} */ title, /** @type {Child} */ content) => h("div", {}, h("p", { class: "panel-title" }, title), content);

/** The width that a figure has inside its box. @type {(box: HTMLElement, most: number) => number} */
const room = (box, most) => Math.max(260, Math.min(most, box.clientWidth));

/** Rows that have something between floor and ceiling. @type {(suite: Suite, rows: Row[]) => Row[]} */
const between = (suite, rows) => rows.filter((row) => row.name !== suite.floor && row.name !== suite.ceiling);

const pointsOf = (/** @type {Row[]} */ rows, /** @type {{ [row: string]: Interval | undefined }} */ scores) => rows.flatMap((row) => {
  const interval = scores[row.name];
  return interval ? [{ row, interval }] : [];
});

function drawFigures(/** @type {Suite} */ suite, /** @type {Row[]} */ rows, /** @type {TaskCell[]} */ tasks) {
  const box = byId("figures"), width = room(box, 1192), half = Math.min(innerWidth > 900 ? (width - 32) / 2 : width, 620), methods = between(suite, rows);
  const [ood, ind] = ["ood", "ind"].map((condition) => viewOf(suite, condition, state.modality, state.supervisors, state.metric)?.score ?? {});
  const both = pointsOf(methods, ind).flatMap((point) => pointsOf([point.row], ood).map(({ row, interval }) => ({ row, ind: point.interval, ood: interval })));
  show(box,
    figure(`Tasks, ${CONDITION[state.condition]}`, `One line a task: ${where()}. Dots are mean scores in percent.`,
      tasksFigure(width, taskLines(suite, tasks, methods), markOf, "Mean score of every method on every task, between floor and ceiling")),
    both.length > 0 && figure("Out of distribution against in distribution", "Mean over families of tasks. On the dashed line a method does as well on the shifted domain as on the supervisors’ own.",
      scatter(half, both, markOf, "Mean score OOD against mean score InD"), "beside"),
    weightsPart(rows, tasks, half), stressPart(suite, rows, width));
}

const taskLines = (/** @type {Suite} */ suite, /** @type {TaskCell[]} */ tasks, /** @type {Row[]} */ rows) => tasks.map(({ task, cell }) => {
  const { score } = scoresOf(cell, state.metric);
  return { label: task.name, group: task.modality, floor: score[suite.floor]?.[0], ceiling: score[suite.ceiling]?.[0], points: pointsOf(rows, score) };
});

/** Points of all seeds: a supervisor's score, less its colleagues' mean if `centred`, and its weight.
 *  @type {(places: TaskCell[], name: string, centred: boolean) => WeightPoint[]} */
const weightPoints = (places, name, centred) => places.flatMap(({ task, cell }) => cell.weights[name]?.values.flatMap((weights, i) => {
  const scores = cell.own.supervisors[i], mean = centred ? meanOf(scores) : 0;
  return (weights ?? []).map((weight, m) => ({ score: scores[m] - mean, weight,
    text: `${task.name}, seed ${cell.seeds[i]}: supervisor ${task.supervisors[m]}, score ${scores[m].toFixed(1)}, weight ${weight.toFixed(2)}` }));
}) ?? []);

/** A panel for each method that learns weights. @type {(rows: Row[], tasks: TaskCell[], half: number) => Child} */
function weightsPart(rows, tasks, half) {
  const learned = rows.filter((row) => tasks.some(({ cell }) => cell.weights[row.name]));
  const panels = learned.map((row) => {
    const known = tasks.flatMap(({ task, cell }) => {
      const value = cell.weights[row.name]?.correlation;
      return value === null || value === undefined ? [] : [{ family: task.family, value }];
    });
    return panel(`${row.title}${known.length ? ` (rank correlation ${meanOverFamilies(known).toFixed(2)})` : ""}`,
      weightsFigure(Math.min(half, 460), weightPoints(tasks, row.name, true), markOf(row.name),
        "supervisor’s score minus its task’s mean, points", 0, `Weights that ${row.title} learned against the supervisors’ scores`));
  });
  return panels.length > 0 && figure("Learned weights against supervisors’ scores", "Weight at the end of training (0 to 1); a point is one supervisor of one task and seed, right of the dashed line if better than the supervisors’ mean there. Rank correlation: Spearman’s within a task, mean over seeds, tasks and families.",
    h("div", { class: "panels" }, panels), panels.length > 1 ? "" : "beside");
}

function stressPart(/** @type {Suite} */ suite, /** @type {Row[]} */ rows, /** @type {number} */ width) {
  const shown = suite.stress.filter((curve) => rows.some((row) => row.name === curve.method));
  const bases = [...new Set(shown.map((curve) => curve.base))], kinds = [...new Set(shown.map((curve) => curve.kind))];
  const each = Math.max(240, Math.min(360, width / Math.min(kinds.length, 4) - 16));
  const content = bases.map((base) => {
    const here = shown.filter((curve) => curve.base === base);
    const domain = extent(here.flatMap((curve) => curve.means.flatMap((mean, i) => endsOf(mean, curve.halves[i]))));
    return panel(base, h("div", { class: "panels" }, kinds.map((kind) => {
      const curves = here.filter((curve) => curve.kind === kind);
      return curves.length > 0 && h("div", {}, h("p", { class: "quiet" }, kind), stressFigure(each, curves, markOf, domain, `${base}: scores as supervisors are made worse, ${kind}`));
    })));
  });
  return shown.length > 0 && figure("Supervisors made worse", "Mean score as supervisors are made worse in known ways; the first level leaves them as they are.", content);
}

function drawTasks(/** @type {Suite} */ suite, /** @type {Row[]} */ rows, /** @type {TaskCell[]} */ tasks) {
  show(byId("tasks"), tasks.map(({ task, cell }) => {
    const body = h("div", { class: "panel" });
    const toggle = () => {
      state.open[details.open ? "add" : "delete"](task.name);
      if (!body.firstChild && details.open) drawTask(suite, { task, cell }, rows, body);
    };
    const details = h("details", { open: state.open.has(task.name), "data-task": task.name, toggle }, h("summary", { "data-focus": `task:${task.name}` },
      h("span", { class: "task-name" }, task.name), h("span", { class: "quiet" }, ` ${task.modality}. ${task.card?.shift ?? `to ${task.target}`}`)), body);
    return details;
  }));
  // Open ones are drawn when they are in the page and have a width.
  for (const details of byId("tasks").querySelectorAll("details[open]")) details.dispatchEvent(new Event("toggle"));
}

function drawTask(/** @type {Suite} */ suite, /** @type {TaskCell} */ place, /** @type {Row[]} */ rows, /** @type {HTMLElement} */ body) {
  const { task, cell } = place, { score } = scoresOf(cell, state.metric), width = room(body, 860);
  const methods = sorted(between(suite, rows).filter((row) => score[row.name]), intervalColumn("score", "", "", (row) => score[row.name]), true);
  const learned = rows.filter((row) => cell.weights[row.name]);
  show(body, taskFacts(suite, place),
    figure(`${task.name}, ${CONDITION[state.condition]}`, `Score in percent (${state.metric === "accuracy" ? "accuracy" : task.metric}), with 95% intervals.`,
      ladder(width, pointsOf(methods, score), score[suite.floor]?.[0], score[suite.ceiling]?.[0], markOf, `All methods on ${task.name}`)),
    taskTable(suite, place, state.metric, rows, openMethod),
    learned.length > 0 && figure("Learned weights", "A point is one supervisor of one seed; its score by the task’s own metric.", h("div", { class: "panels" }, learned.map((row) =>
      panel(row.title, weightsFigure(Math.min(width, 420), weightPoints([place], row.name, false), markOf(row.name), "supervisor’s score, percent", null, `Weights of ${row.title} on ${task.name}`))))));
}

// --- a method --------------------------------------------------------------------------------------------------------

function openMethod(/** @type {string} */ name) {
  const suite = current(), row = rowOf(name);
  if (!row) return;
  state.method = name;
  const kinds = { single: "sees one supervisor at a time; scores are averaged over supervisors", ensemble: "sees all supervisors", canary: "a canary, built by the harness: not a method" };
  const kind = kinds[/** @type {keyof typeof kinds} */ (row.kind)] ?? "needs no training";
  const chart = h("div", {}), title = h("h2", { id: "detail-title", tabindex: -1 }, row.title);
  const text = row.description || (row.role === "canary" || row.role === "reference" ? `${row.title}.`
    : "No description: no submission gives one, and the method is not installed where the page was made, or is of another version.");
  show(detail,
    h("div", { class: "bar" }, title, h("button", { type: "button", class: "close", click: () => detail.close() }, "Close")),
    factList({
      name: h("code", {}, row.name), family: row.family, kind: row.ablation_of ? `${kind}; an ablation of ${row.ablation_of}` : kind, version: row.version === null ? "" : String(row.version),
      "developed on": row.developed_on, "chosen on other families": row.tuned, citation: citation(row.citation), cost: row.cost === null ? "" : `${row.cost.toFixed(2)} × ${suite.cost_unit} (optimizer steps × heads)`,
    }),
    h("div", { class: "description" }, text.split(/\n\s*\n/).map((paragraph) => h("p", {}, prose(paragraph)))),
    row.settings.length > 0 && [h("h3", {}, "Settings"), settingTables(row)],
    h("h3", {}, "Means"), methodMeans(suite, row, state.metric), chart,
    h("h3", {}, "All numbers"), h("p", { class: "quiet" }, `Percent, by ${metricName()}; a score for every seed. Failed seeds: those that end worse than the floor.`),
    methodTable(suite, row, state.metric));
  detail.showModal();
  title.focus();
  detail.scrollTop = 0;
  show(chart, figure(`Tasks, ${CONDITION[state.condition]}`, "Between floor and ceiling, with 95% intervals.",
    tasksFigure(room(chart, 860), taskLines(suite, tasksNow(), [row]), () => 0, `${row.title} on every task`)));
  keepAddress();
}

// --- the address, the theme, the start -------------------------------------------------------------------------------

const FLAGS = /** @type {const} */ (["canaries", "ablations"]);
const KEPT = /** @type {const} */ (["modality", "condition", "metric", "supervisors", "method"]);

function keepAddress() {
  const parts = new URLSearchParams({ suite: current().name });
  for (const name of [...KEPT, ...FLAGS]) if (state[name] && state[name] !== "sound") parts.set(name, String(state[name]));
  history.replaceState(null, "", `#${parts}`);
}

function readAddress() {
  const parts = new URLSearchParams(location.hash.slice(1));
  state.suite = Math.max(0, suites.findIndex((suite) => suite.name === parts.get("suite")));
  for (const name of KEPT) state[name] = parts.get(name) ?? state[name];
  for (const name of FLAGS) state[name] = parts.get(name) === "true";
}

function useSuite(/** @type {number} */ index) {
  Object.assign(state, { suite: index, open: new Set(), find: "" });
  const suite = current(), first = suite.rows.find((row) => row.role === "method");
  state.marks = [...new Set([suite.focus, suite.baseline, first?.name ?? ""])];
  fit();
  drawFilters();
  const said = (/** @type {string} */ title, /** @type {Claim[]} */ claims, end = "") => claims.length > 0 && h("details", {}, h("summary", {}, title),
    h("ul", {}, claims.map(({ claim, found }) => h("li", {}, h("b", {}, claim + end), ` ${found}`))));
  show(byId("claims"), said("Which families of methods work where", suite.families, ":"), said("The claims of the RAVEN paper, by these results", suite.claims));
  show(byId("facts"), factList(suite.facts), suite.problems.length > 0 && [h("h3", {}, "Problems"), h("p", {}, "Not used, or not as it should be:"), h("ul", {}, suite.problems.map((text) => h("li", {}, text)))]);
  draw();
}

function drawSuites() {
  if (suites.length > 1) show(byId("suites"), h("fieldset", {}, h("legend", { class: "hidden" }, "Suite"),
    suites.map((suite, i) => chip("radio", "suite", suite.name, i === state.suite, suite.name, () => useSuite(i)))));
}

function theme() {
  const button = byId("theme"), system = matchMedia("(prefers-color-scheme: dark)");
  const dark = () => (document.documentElement.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";
  const press = () => button.setAttribute("aria-pressed", String(dark()));
  button.hidden = false;
  button.addEventListener("click", () => { document.documentElement.dataset.theme = dark() ? "light" : "dark"; press(); });
  system.addEventListener("change", press);
  press();
}

function start() {
  readAddress();
  const wanted = state.method;
  state.method = "";
  byId("app").hidden = false;
  theme();
  drawSuites();
  useSuite(state.suite);
  byId("static").remove();
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  detail.addEventListener("close", () => { state.method = ""; keepAddress(); });
  detail.addEventListener("click", (event) => { if (event.target === detail) detail.close(); });
  document.addEventListener("click", ({ target }) => {
    const point = target instanceof Element && target.closest(".pick");
    if (point && !detail.open) openMethod(point.getAttribute("data-method") ?? "");
  });
  let width = innerWidth;
  addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; draw(); } });
  addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details")) {
      details.open = true;
      details.dispatchEvent(new Event("toggle")); // its own comes too late
    }
  });
  openMethod(wanted);
}

start();
