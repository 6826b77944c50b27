// What is shown, and what changes it. The state's filters also stand in the address, so that a view can be linked to.

const { suites } = JSON.parse(byId("payload").textContent);
const state = {
  suite: 0, modality: "", condition: "", metric: "", supervisors: "all", canaries: false, ablations: false,
  find: "", sort: "score", descending: true, marks: [], open: new Set(), method: "",
};
const current = () => suites[state.suite];
const rowOf = (name) => current().rows.find((row) => row.name === name);
const markOf = (name) => state.marks.indexOf(name);
const MOST_MARKS = 4;

// --- filters ---------------------------------------------------------------------------------------------------------

/** [value, label] that a filter may have in this suite, the default first. */
function choices(suite) {
  const broken = suite.tasks.some((task) => task.broken) && suite.tasks.some((task) => !task.broken);
  return {
    condition: suite.conditions.map((name) => [name, CONDITION[name]]),
    modality: [["", "all"], ...(suite.modalities.length > 1 ? suite.modalities.map((name) => [name, name]) : [])],
    supervisors: [["all", "all tasks"], ...(broken ? [["sound", "none broken"], ["broken", "one broken"]] : [])],
    metric: suite.metrics.map((name) => [name, name === "own" ? "the task’s own" : name]),
  };
}

function fit() {
  for (const [name, options] of Object.entries(choices(current()))) {
    if (!options.some(([value]) => value === state[name])) state[name] = options[0][0];
  }
  if (!viewNow()) Object.assign(state, { supervisors: "all", modality: "" });
  state.marks = state.marks.filter(rowOf);
}

const viewNow = () => viewOf(current(), state.condition, state.modality, state.supervisors, state.metric);

function radios(name, label, options) {
  return h("fieldset", {}, h("legend", {}, label), options.map(([value, text]) => h("label", { class: "chip" },
    h("input", { type: "radio", name, value, checked: state[name] === value, on: { change: () => change({ [name]: value }) } }), h("span", {}, text))));
}

const check = (name, label) => h("label", { class: "chip" },
  h("input", { type: "checkbox", name, value: "on", checked: state[name], on: { change: (event) => change({ [name]: event.target.checked }) } }), h("span", {}, label));

function drawFilters() {
  const suite = current(), options = choices(suite);
  const labels = { condition: "Condition", modality: "Modality", supervisors: "Supervisors", metric: "Metric" };
  show(byId("filters"),
    Object.keys(labels).filter((name) => options[name].length > 1).map((name) => radios(name, labels[name], options[name])),
    h("fieldset", {}, h("legend", {}, "Also show"), check("canaries", "canaries and reference rows"), suite.rows.some((row) => row.role === "ablation") && check("ablations", "ablations")),
    h("label", { class: "find" }, h("span", {}, "Find"), h("input", { type: "search", name: "find", value: state.find, placeholder: "a method", on: { input: (event) => change({ find: event.target.value }) } })));
}

function visibleRows() {
  const wanted = state.find.trim().toLowerCase();
  return current().rows.filter((row) => {
    if (row.role === "ablation" && !state.ablations) return false;
    if ((row.role === "canary" || row.role === "reference") && !state.canaries) return false;
    return !wanted || `${row.title} ${row.name}`.toLowerCase().includes(wanted);
  });
}

function visibleTasks() {
  return current().tasks.filter((task) => (!state.modality || task.modality === state.modality)
    && (state.supervisors === "all" || task.broken === (state.supervisors === "broken"))
    && current().cells[`${task.name}|${state.condition}`]);
}

// --- drawing ---------------------------------------------------------------------------------------------------------

function change(changes) {
  Object.assign(state, changes);
  fit();
  draw();
}

function mark(name) {
  const marks = markOf(name) >= 0 ? state.marks.filter((other) => other !== name) : [...state.marks, name].slice(-MOST_MARKS);
  change({ marks });
}

function sort(column) {
  const again = state.sort === column.key;
  change({ sort: column.key, descending: again ? !state.descending : !column.ascending });
}

function draw() {
  const focused = document.activeElement?.getAttribute("data-focus");
  const suite = current(), rows = visibleRows(), tasks = visibleTasks();
  const columns = columnsOf(suite, state, tasks);
  const column = columns.find(({ key }) => key === state.sort) ?? columns.find(({ key }) => key === "score");
  const ordered = sorted(rows, column, state.descending);
  const scrolled = byId("table").firstElementChild?.scrollLeft ?? 0;
  show(byId("about"), h("b", {}, `Suite ${suite.name}`), suite.description && `: ${suite.description}.`);
  byId("status").textContent = `${plural(rows.length, "row")}; ${where()}.`;
  const table = leaderboard(suite, { ...state, sort: column.key }, ordered, columns, { sort, open, mark, markOf });
  show(byId("table"), table);
  table.scrollLeft = scrolled;
  drawLegend(suite);
  drawFigures(suite, ordered, tasks);
  drawTasks(suite, rows, tasks);
  if (focused) document.querySelector(`[data-focus="${CSS.escape(focused)}"]`)?.focus();
  address();
}

/** The filters in words. */
function where() {
  const parts = [plural(visibleTasks().length, state.modality ? `${state.modality} task` : "task"), CONDITION[state.condition]];
  if (state.supervisors !== "all") parts.push(state.supervisors === "broken" ? "with a broken supervisor" : "no supervisor broken");
  parts.push(state.metric === "own" ? "each task’s own metric" : state.metric);
  return parts.join(", ");
}

function drawLegend(suite) {
  const swatch = (...children) => s("svg", { width: 18, height: 16, viewBox: "0 0 18 16", "aria-hidden": "true" }, ...children);
  show(byId("legend"), h("p", { class: "legend" },
    state.marks.map((name, i) => h("span", {}, swatch(glyph(9, 8, i)), rowOf(name).title)),
    h("span", {}, swatch(glyph(9, 8, -1)), "other methods"),
    h("span", {}, swatch(s("rect", { x: 2, y: 1, width: 14, height: 14, class: "band" }), line(2, 1, 2, 15, "floor"), line(16, 1, 16, 15, "ceiling")),
      "from floor (supervisors’ mean) to ceiling (trained on the truth)")),
  h("p", { class: "quiet" }, `Up to ${MOST_MARKS} methods are marked with the buttons before their names; whiskers are 95% intervals. The filters above hold here too. Click a point to open its method.`));
}

function figure(title, caption, content, name = "") {
  return h("figure", { class: name }, h("h3", {}, title), content, h("figcaption", {}, caption));
}

/** The width that a figure has inside its box. */
const room = (box, most) => Math.max(260, Math.min(most, box.clientWidth));

function drawFigures(suite, rows, tasks) {
  const box = byId("figures"), width = room(box, 1192), half = Math.min(innerWidth > 900 ? (width - 32) / 2 : width, 620), methods = rows.filter((row) => row.name !== suite.floor && row.name !== suite.ceiling);
  const parts = [figure(`Tasks, ${CONDITION[state.condition]}`, `One line a task: ${where()}. Dots are mean scores in percent.`,
    tasksFigure(width, taskLines(suite, tasks, methods), markOf, "Mean score of every method on every task, between floor and ceiling"))];
  const ood = viewOf(suite, "ood", state.modality, state.supervisors, state.metric), ind = viewOf(suite, "ind", state.modality, state.supervisors, state.metric);
  const both = ood && ind ? methods.filter((row) => ood.score[row.name] && ind.score[row.name]) : [];
  if (both.length) {
    parts.push(figure("Out of distribution against in distribution", "Mean over tasks. On the dashed line a method does as well on the shifted domain as on the supervisors’ own.",
      scatter(half, both.map((row) => [row, ind.score[row.name], ood.score[row.name]]), markOf, "Mean score OOD against mean score InD"), "beside"));
  }
  parts.push(weightParts(suite, rows, tasks, half), stressParts(suite, rows, width));
  show(box, parts);
}

function taskLines(suite, tasks, rows) {
  return tasks.map((task) => {
    const scores = scoresOf(suite.cells[`${task.name}|${state.condition}`], state.metric);
    return {
      label: task.name, group: task.modality, floor: scores.score[suite.floor]?.[0], ceiling: scores.score[suite.ceiling]?.[0],
      points: rows.filter((row) => scores.score[row.name]).map((row) => [row, scores.score[row.name]]),
    };
  });
}

/** Points of all seeds: a supervisor's score, less its colleagues' mean if `centred`, and its weight. */
function weightPoints(task, cell, name, centred) {
  return cell.weights[name].values.flatMap((weights, i) => {
    const scores = cell.own.supervisors[i], mean = scores.reduce((a, b) => a + b, 0) / scores.length;
    return (weights ?? []).map((weight, m) => [scores[m] - (centred ? mean : 0), weight,
      `${task.name}, seed ${cell.seeds[i]}: supervisor ${task.supervisors[m]}, score ${scores[m].toFixed(1)}, weight ${weight.toFixed(2)}`]);
  });
}

function weightParts(suite, rows, tasks, half) {
  const cells = tasks.map((task) => [task, suite.cells[`${task.name}|${state.condition}`]]);
  const learned = rows.filter((row) => cells.some(([, cell]) => cell.weights[row.name]));
  if (!learned.length) return [];
  const panels = learned.map((row) => {
    const used = cells.filter(([, cell]) => cell.weights[row.name]);
    const known = used.map(([, cell]) => cell.weights[row.name].correlation).filter((value) => value !== null);
    const mean = known.length ? ` (rank correlation ${(known.reduce((a, b) => a + b, 0) / known.length).toFixed(2)})` : "";
    return h("div", {}, h("p", { class: "panel-title" }, `${row.title}${mean}`),
      weightsFigure(Math.min(half, 460), used.flatMap(([task, cell]) => weightPoints(task, cell, row.name, true)), markOf(row.name),
        "supervisor’s score minus its task’s mean, points", 0, `Weights that ${row.title} learned against the supervisors’ scores`));
  });
  return [figure("Learned weights against supervisors’ scores", "Weight at the end of training (0 to 1); a point is one supervisor of one task and seed, right of the dashed line if better than the supervisors’ mean there. Rank correlation: Spearman’s within a task, mean over seeds and tasks.",
    h("div", { class: "panels" }, panels), learned.length > 1 ? "" : "beside")];
}

function stressParts(suite, rows, width) {
  const shown = suite.stress.filter((curve) => rows.some((row) => row.name === curve.method));
  if (!shown.length) return [];
  const bases = [...new Set(shown.map((curve) => curve.base))], kinds = [...new Set(shown.map((curve) => curve.kind))];
  const each = Math.max(240, Math.min(360, width / Math.min(kinds.length, 4) - 16));
  const content = bases.map((base) => {
    const here = shown.filter((curve) => curve.base === base);
    const domain = extent(here.flatMap((curve) => ends(curve.means.map((mean, i) => [mean, curve.halves[i]]))));
    return h("div", {}, h("p", { class: "panel-title" }, base), h("div", { class: "panels" }, kinds.map((kind) => {
      const curves = here.filter((curve) => curve.kind === kind);
      return curves.length > 0 && h("div", {}, h("p", { class: "quiet" }, kind), stressFigure(each, curves, rowOf, markOf, domain, `${base}: scores as supervisors are made worse, ${kind}`));
    })));
  });
  return [figure("Stress curves", "Mean score as supervisors are made worse in known ways; the first level leaves them as they are.", content)];
}

function drawTasks(suite, rows, tasks) {
  show(byId("tasks"), tasks.map((task) => {
    const body = h("div", { class: "panel" });
    const fill = () => { if (!body.firstChild && panel.open) drawTask(suite, task, rows, body); };
    const panel = h("details", { open: state.open.has(task.name), "data-task": task.name, on: { toggle: () => {
      state.open[panel.open ? "add" : "delete"](task.name);
      fill();
    } } }, h("summary", { "data-focus": `task:${task.name}` }, h("span", { class: "task-name" }, task.name), h("span", { class: "quiet" }, ` ${task.modality}. ${task.card?.shift ?? `to ${task.target}`}`)), body);
    return panel;
  }));
  // Open ones are drawn when they are in the page and have a width.
  for (const panel of byId("tasks").querySelectorAll("details[open]")) panel.dispatchEvent(new Event("toggle"));
}

function drawTask(suite, task, rows, body) {
  const cell = suite.cells[`${task.name}|${state.condition}`], scores = scoresOf(cell, state.metric);
  const score = intervalColumn("score", "", "", (row) => scores.score[row.name]);
  const shown = sorted(rows.filter((row) => scores.score[row.name] && row.name !== suite.floor && row.name !== suite.ceiling), score, true);
  const width = room(body, 860);
  body.append(taskFacts(suite, task, state.condition),
    figure(`${task.name}, ${CONDITION[state.condition]}`, `Score in percent (${state.metric === "accuracy" ? "accuracy" : task.metric}), with 95% intervals.`,
      ladder(width, shown.map((row) => [row, scores.score[row.name]]), scores.score[suite.floor]?.[0], scores.score[suite.ceiling]?.[0], markOf, `All methods on ${task.name}`)),
    taskTable(suite, task, state.condition, state.metric, rows, open));
  const learned = rows.filter((row) => cell.weights[row.name]);
  if (learned.length) {
    body.append(figure("Learned weights", "A point is one supervisor of one seed; its score by the task’s own metric.", h("div", { class: "panels" }, learned.map((row) =>
      h("div", {}, h("p", { class: "panel-title" }, row.title), weightsFigure(Math.min(width, 420), weightPoints(task, cell, row.name, false), markOf(row.name), "supervisor’s score, percent", null, `Weights of ${row.title} on ${task.name}`))))));
  }
}

// --- a method --------------------------------------------------------------------------------------------------------

function open(name) {
  const suite = current(), row = rowOf(name), dialog = byId("detail");
  if (!row) return;
  state.method = name;
  const kind = { single: "sees one supervisor at a time; scores are averaged over supervisors", ensemble: "sees all supervisors", canary: "a canary, built by the harness: not a method" }[row.kind] ?? "needs no training";
  const chart = h("div", {});
  const text = row.description || { canary: `${row.title}.`, reference: `${row.title}.` }[row.role] || "No description: no submission gives one, and the method is not installed where the page was made, or is of another version.";
  show(dialog,
    h("div", { class: "bar" }, h("h2", { id: "detail-title", tabindex: -1 }, row.title), h("button", { type: "button", class: "close", on: { click: () => dialog.close() } }, "Close")),
    factList({
      name: h("code", {}, row.name), kind: row.ablation_of ? `${kind}; an ablation of ${row.ablation_of}` : kind, version: row.version === null ? "" : String(row.version),
      citation: citation(row.citation), cost: row.cost === null ? "" : `${row.cost.toFixed(2)} × ${suite.cost_unit} (optimizer steps × heads)`,
    }),
    h("div", { class: "description" }, text.split(/\n\s*\n/).map((paragraph) => h("p", {}, prose(paragraph)))),
    row.settings.length > 0 && [h("h3", {}, "Settings"), settingTables(row)],
    h("h3", {}, "Means"), methodMeans(suite, row, state.metric),
    chart,
    h("h3", {}, "All numbers"), h("p", { class: "quiet" }, `Percent, by ${state.metric === "own" ? "each task’s own metric" : state.metric}; a score for every seed. Failed seeds: those that end worse than the floor.`),
    methodTable(suite, row, state.metric));
  dialog.showModal();
  byId("detail-title").focus();
  dialog.scrollTop = 0;
  const tasks = suite.tasks.filter((task) => suite.cells[`${task.name}|${state.condition}`]);
  chart.append(figure(`Tasks, ${CONDITION[state.condition]}`, "Between floor and ceiling, with 95% intervals.",
    tasksFigure(room(chart, 860), taskLines(suite, tasks, [row]), () => 0, `${row.title} on every task`)));
  address();
}

// --- the address, the theme, the start -------------------------------------------------------------------------------

const KEPT = ["modality", "condition", "metric", "supervisors", "canaries", "ablations", "method"];

function address() {
  const parts = new URLSearchParams({ suite: current().name });
  for (const name of KEPT) if (state[name] && state[name] !== "all") parts.set(name, String(state[name]));
  history.replaceState(null, "", `#${parts}`);
}

function readAddress() {
  const parts = new URLSearchParams(location.hash.slice(1));
  const named = suites.findIndex((suite) => suite.name === parts.get("suite"));
  if (named > 0) state.suite = named;
  for (const name of KEPT) if (parts.has(name)) state[name] = ["canaries", "ablations"].includes(name) ? parts.get(name) === "true" : parts.get(name);
}

function useSuite(index) {
  Object.assign(state, { suite: index, open: new Set(), find: "" });
  const suite = current(), first = suite.rows.find((row) => row.role === "method");
  state.marks = [...new Set([suite.focus, suite.baseline, first?.name])].filter((name) => rowOf(name));
  fit();
  drawFilters();
  show(byId("facts"), factList(suite.facts), suite.problems.length > 0 && [h("h3", {}, "Problems"), h("p", {}, "Not used, or not as it should be:"), h("ul", {}, suite.problems.map((text) => h("li", {}, text)))]);
  draw();
}

function drawSuites() {
  if (suites.length < 2) return;
  show(byId("suites"), h("fieldset", {}, h("legend", { class: "hidden" }, "Suite"), suites.map((suite, i) => h("label", { class: "chip" },
    h("input", { type: "radio", name: "suite", value: suite.name, checked: i === state.suite, on: { change: () => useSuite(i) } }), h("span", {}, suite.name)))));
}

function theme() {
  const button = byId("theme"), system = matchMedia("(prefers-color-scheme: dark)");
  const dark = () => (document.documentElement.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";
  const show = () => button.setAttribute("aria-pressed", String(dark()));
  button.hidden = false;
  button.addEventListener("click", () => { document.documentElement.dataset.theme = dark() ? "light" : "dark"; show(); });
  system.addEventListener("change", show);
  show();
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
  byId("detail").addEventListener("close", () => { state.method = ""; address(); });
  byId("detail").addEventListener("click", (event) => { if (event.target === byId("detail")) byId("detail").close(); });
  document.addEventListener("click", (event) => {
    const point = event.target.closest?.(".pick");
    if (point && !byId("detail").open) open(point.getAttribute("data-method"));
  });
  let width = innerWidth;
  addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; draw(); } });
  addEventListener("beforeprint", () => { 
    for (const panel of document.querySelectorAll("details")) {
      panel.open = true;
      panel.dispatchEvent(new Event("toggle")); // its own comes too late
    }
  });
  if (wanted) open(wanted);
}

start();
