// @ts-check
// Figures are SVG at one unit a pixel, drawn for the width that they have; colours and type are the style sheet's.

/** Linear scale from [a, b] to [c, d]. @type {(domain: Extent, c: number, d: number) => Scale} */
const scale = ([a, b], c, d) => (x) => c + ((x - a) / (b - a || 1)) * (d - c);

/** Round values within [low, high], about `count` of them. @type {(domain: Extent, count: number) => number[]} */
function ticks([low, high], count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough || 1));
  const step = [1, 2, 5, 10].map((m) => m * power).find((candidate) => candidate >= rough) ?? rough;
  const values = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9; i++) values.push(Number((i * step).toPrecision(10)));
  return values;
}

/** [low, high] of numbers, with a margin of 4%. @type {(values: (number | undefined)[]) => Extent} */
function extent(values) {
  const known = values.filter((value) => value !== undefined);
  const low = Math.min(...known), high = Math.max(...known);
  const margin = (high - low) * 0.04 || 1;
  return known.length ? [low - margin, high + margin] : [0, 100];
}

/** All ends of intervals: mean - half, mean + half. @type {(intervals: (Interval | undefined)[]) => number[]} */
const ends = (intervals) => intervals.flatMap((interval) => (interval ? endsOf(interval[0], interval[1]) : []));
const endsOf = (/** @type {number} */ mean, /** @type {number | null} */ half) => [mean - (half ?? 0), mean + (half ?? 0)];

/** Those of marked methods last, so on top. @type {<T>(items: T[], markOf: (item: T) => number) => T[]} */
const markedLast = (items, markOf) => [...items].sort((a, b) => markOf(b) - markOf(a)).reverse();

/** @type {(width: number, height: number, label: string, ...children: Child[]) => SVGElement} */
const picture = (width, height, label, ...children) =>
  s("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label }, hint(label), children);
/** @type {(width: number, height: number, name: string | null, ...children: Child[]) => SVGElement} */
const decoration = (width, height, name, ...children) =>
  s("svg", { width, height, viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true", class: name }, children);
/** @type {(x1: number, y1: number, x2: number, y2: number, name: string) => SVGElement} */
const line = (x1, y1, x2, y2, name) => s("line", { x1, y1, x2, y2, class: name });
/** @type {(x: number, y: number, text: string, name: string, anchor: string) => SVGElement} */
const words = (x, y, text, name, anchor) => s("text", { x, y, class: name, "text-anchor": anchor }, text);
const hint = (/** @type {string} */ text) => s("title", {}, text);

/** Vertical lines at round values, numbers below. @type {(x: Scale, domain: Extent, top: number, bottom: number, count: number) => Child[]} */
const gridAlong = (x, domain, top, bottom, count) => ticks(domain, count).map((value) =>
  [line(x(value), top, x(value), bottom, "grid"), words(x(value), bottom + 16, String(value), "tick", "middle")]);

/** Horizontal lines, numbers before them. @type {(y: Scale, values: number[], left: number, right: number) => Child[]} */
const gridUp = (y, values, left, right) => values.map((value) =>
  [line(left, y(value), right, y(value), "grid"), words(left - 7, y(value) + 4, String(value), "tick", "end")]);

/** The mark of the i-th marked method, a shape of its own; any other method (-1) is a small grey disc. @type {(x: number, y: number, i: number) => SVGElement} */
function glyph(x, y, i) {
  const name = i < 0 ? "other" : `fill m${i}`;
  if (i === 1) return s("rect", { x: x - 4.2, y: y - 4.2, width: 8.4, height: 8.4, class: name });
  if (i === 2) return s("path", { d: `M${x} ${y - 5.6}l5.4 9.6h-10.8z`, class: name });
  if (i === 3) return s("path", { d: `M${x} ${y - 6}l6 6-6 6-6-6z`, class: name });
  return s("circle", { cx: x, cy: y, r: i < 0 ? 3 : 4.8, class: name });
}

/** A method's part of a figure, which opens it. @type {(name: string, text: string, ...children: Child[]) => SVGElement} */
const pick = (name, text, ...children) => s("g", { class: "pick", "data-method": name }, hint(text), children);

/** A row's dot with its interval. @type {(point: Point, x: Scale, y: number, mark: number, whisker?: boolean) => SVGElement} */
function dot({ row, interval: [mean, half, text] }, x, y, mark, whisker = true) {
  const [low, high] = endsOf(mean, half).map(x);
  return pick(row.name, `${row.title}: ${text}`, whisker && half !== null && line(low, y, high, y, mark < 0 ? "whisker" : `whisker m${mark}`), glyph(x(mean), y, mark));
}

/** The interval of one table row on the axis that all rows share, with floor and ceiling.
 *  @type {(row: Row, interval: Interval | undefined, domain: Extent, floor: number | undefined, ceiling: number | undefined, mark: number) => SVGElement} */
function strip(row, interval, domain, floor, ceiling, mark) {
  const width = 134, height = 22, x = scale(domain, 5, width - 5);
  return decoration(width, height, "strip", band(x, 0, height, floor, ceiling), interval && dot({ row, interval }, x, height / 2, mark));
}

/** From floor to ceiling: a tint with a line at each end. @type {(x: Scale, top: number, height: number, floor?: number, ceiling?: number) => Child[]} */
const band = (x, top, height, floor, ceiling) => [
  floor !== undefined && ceiling !== undefined
    && s("rect", { x: Math.min(x(floor), x(ceiling)), y: top, width: Math.abs(x(ceiling) - x(floor)), height, class: "band" }),
  floor !== undefined && line(x(floor), top, x(floor), top + height, "floor"),
  ceiling !== undefined && line(x(ceiling), top, x(ceiling), top + height, "ceiling"),
];

/** One line a task: all methods as dots between floor and ceiling, the marked ones with intervals. @type {(width: number, lines: TaskLine[], markOf: MarkOf, label: string) => SVGElement} */
function tasksFigure(width, lines, markOf, label) {
  const narrow = width < 620, left = narrow ? 6 : 210, right = width - 14, step = narrow ? 44 : 29;
  const domain = extent(lines.flatMap((task) => [task.floor, task.ceiling, ...ends(task.points.map(({ interval }) => interval))]));
  const x = scale(domain, left, right);
  /** @type {Child[]} */
  const parts = [];
  let y = 18, group = null;
  for (const task of lines) {
    if (task.group !== group) {
      y += group === null ? 4 : 20;
      parts.push(words(narrow ? 0 : left - 12, y, task.group, "group", narrow ? "start" : "end"));
      y += narrow ? 12 : 6;
      group = task.group;
    }
    const middle = narrow ? y + 25 : y + step / 2;
    parts.push(narrow ? words(0, y + 8, task.label, "label", "start") : words(left - 12, middle + 4, task.label, "label", "end"));
    parts.push(line(left, middle, right, middle, "rule"), band(x, middle - 10, 20, task.floor, task.ceiling));
    const marked = task.points.filter(({ row }) => markOf(row.name) >= 0).length;
    let seen = 0;
    for (const point of markedLast(task.points, ({ row }) => markOf(row.name))) {
      const mark = markOf(point.row.name);
      parts.push(dot(point, x, mark < 0 ? middle : middle + (seen++ - (marked - 1) / 2) * 5.6, mark, mark >= 0));
    }
    y += step;
  }
  return picture(width, y + 28, label, gridAlong(x, domain, 10, y + 6, narrow ? 5 : 9), parts);
}

/** One line a method, with its interval: a task's panel.
 *  @type {(width: number, points: Point[], floor: number | undefined, ceiling: number | undefined, markOf: MarkOf, label: string) => SVGElement} */
function ladder(width, points, floor, ceiling, markOf, label) {
  const narrow = width < 520, left = narrow ? 6 : 246, right = width - 14, step = narrow ? 34 : 22, bottom = 22 + points.length * step;
  const domain = extent([floor, ceiling, ...ends(points.map(({ interval }) => interval))]);
  const x = scale(domain, left, right);
  /** @type {(value: number | undefined, name: string) => Child} */
  const above = (value, name) => value !== undefined && words(x(value), 11, name, "tick", x(value) > width - 40 ? "end" : "middle");
  return picture(width, bottom + 22, label, gridAlong(x, domain, 18, bottom, narrow ? 5 : 8),
    band(x, 18, bottom - 18, floor, ceiling), above(floor, "floor"), above(ceiling, "ceiling"),
    points.map((point, i) => {
      const top = 22 + i * step, middle = narrow ? top + 24 : top + step / 2, { title, name } = point.row, mark = markOf(name);
      const style = mark < 0 ? "label" : "label strong";
      return [narrow ? words(0, top + 11, title, style, "start") : words(left - 12, middle + 4, clipped(title, 34), style, "end"), dot(point, x, middle, mark)];
    }));
}

const clipped = (/** @type {string} */ text, /** @type {number} */ length) => (text.length > length ? `${text.slice(0, length - 1)}…` : text);

/** Means of InD (x) and OOD (y). @type {(width: number, means: { row: Row, ind: Interval, ood: Interval }[], markOf: MarkOf, label: string) => SVGElement} */
function scatter(width, means, markOf, label) {
  const height = Math.min(width, 470), left = 46, bottom = height - 42, top = 12, right = width - 14;
  const marked = means.filter(({ row }) => markOf(row.name) >= 0);
  const dx = extent([...means.map(({ ind }) => ind[0]), ...ends(marked.map(({ ind }) => ind))]);
  const dy = extent([...means.map(({ ood }) => ood[0]), ...ends(marked.map(({ ood }) => ood))]);
  const x = scale(dx, left, right), y = scale(dy, bottom, top), low = Math.max(dx[0], dy[0]), high = Math.min(dx[1], dy[1]);
  const points = markedLast(means, ({ row }) => markOf(row.name)).map(({ row, ind, ood }) => {
    const [west, east] = endsOf(ind[0], ind[1]).map(x), [south, north] = endsOf(ood[0], ood[1]).map(y);
    return { row, ind, ood, mark: markOf(row.name), px: x(ind[0]), py: y(ood[0]), west, east, south, north };
  });
  // Labels keep clear of dots and one another, and of whiskers where they can; one without a place is left to the pointer.
  const taken = points.map(({ px, py }) => [px - 6, py - 6, px + 6, py + 6]);
  const whiskers = points.filter(({ mark }) => mark >= 0).flatMap(({ px, py, west, east, south, north }) => [[west, py - 1, east, py + 1], [px - 1, north, px + 1, south]]);
  /** @type {(box: number[], boxes: number[][]) => boolean} */
  const clear = (box, boxes) => boxes.every((other) => box[2] < other[0] || other[2] < box[0] || box[3] < other[1] || other[3] < box[1]);
  /** @type {[number, number, string][]} */
  const places = [[9, 4, "start"], [-9, 4, "end"], [7, -9, "start"], [7, 17, "start"], [-7, -9, "end"], [-7, 17, "end"], [0, -10, "middle"], [0, 19, "middle"]];
  const labels = [...points].reverse().map(({ row, mark, px, py }) => {
    const text = clipped(row.title, 34), w = text.length * 6.3;
    for (const obstacles of [[...taken, ...whiskers], taken]) {
      for (const [ox, oy, anchor] of places) {
        const start = px + ox - (anchor === "end" ? w : anchor === "middle" ? w / 2 : 0);
        const box = [start, py + oy - 10, start + w, py + oy + 3];
        if (box[0] > left && box[2] < width && box[1] > 0 && box[3] < bottom && clear(box, obstacles)) {
          taken.push(box);
          return words(px + ox, py + oy, text, mark < 0 ? "label quiet" : "label strong", anchor);
        }
      }
    }
    return null;
  });
  return picture(width, height, label, gridAlong(x, dx, top, bottom, 6), gridUp(y, ticks(dy, 6), left, right),
    low < high && line(x(low), y(low), x(high), y(high), "diagonal"),
    words((left + width) / 2, height - 6, "InD, mean score", "axis", "middle"),
    s("text", { transform: `translate(12 ${bottom / 2}) rotate(-90)`, class: "axis", "text-anchor": "middle" }, "OOD, mean score"),
    points.map(({ row, ind, ood, mark, px, py, west, east, south, north }) => pick(row.name, `${row.title}: InD ${ind[2]}, OOD ${ood[2]}`,
      mark >= 0 && ind[1] !== null && line(west, py, east, py, `whisker m${mark}`), mark >= 0 && ood[1] !== null && line(px, south, px, north, `whisker m${mark}`),
      glyph(px, py, mark))),
    labels);
}

/** Learned weights (y) against supervisors' scores (x); centre: a vertical line, or null.
 *  @type {(width: number, points: WeightPoint[], mark: number, axis: string, centre: number | null, label: string) => SVGElement} */
function weightsFigure(width, points, mark, axis, centre, label) {
  const height = 260, left = 40, bottom = height - 42, top = 24, right = width - 14;
  const domain = extent(points.map(({ score }) => score));
  const x = scale(domain, left, right), y = scale([0, 1], bottom, top);
  return picture(width, height, label, gridAlong(x, domain, top, bottom, 6), gridUp(y, [0, 0.5, 1], left, right),
    centre !== null && line(x(centre), top, x(centre), bottom, "diagonal"),
    words((left + width) / 2, height - 6, axis, "axis", "middle"), words(left - 8, 11, "weight", "axis", "start"),
    points.map(({ score, weight, text }) => s("g", {}, hint(text), s("circle", { cx: x(score), cy: y(weight), r: 3.4, class: mark < 0 ? "cloud" : `cloud m${mark}` }))));
}

/** Stress curves of one base task and kind of damage. @type {(width: number, curves: Curve[], markOf: MarkOf, domain: Extent, label: string) => SVGElement} */
function stressFigure(width, curves, markOf, domain, label) {
  const height = 190, left = 36, bottom = height - 34, top = 8, right = width - 12;
  const levels = [...new Set(curves.flatMap((curve) => curve.levels))].sort((a, b) => a - b);
  const x = scale([0, Math.max(levels.length - 1, 1)], left + 8, right - 6), y = scale(domain, bottom, top);
  return picture(width, height, label, gridUp(y, ticks(domain, 4), left, right),
    levels.map((level, i) => words(x(i), bottom + 15, String(level), "tick", "middle")),
    words((left + width) / 2, height - 4, "level", "axis", "middle"),
    markedLast(curves, (curve) => markOf(curve.method)).map((curve) => {
      const mark = markOf(curve.method), name = mark < 0 ? "" : ` m${mark}`;
      const at = curve.levels.map((level, i) => ({ px: x(levels.indexOf(level)), mean: curve.means[i], half: curve.halves[i] }));
      return pick(curve.method, rowOf(curve.method)?.title ?? curve.method,
        s("path", { d: at.map(({ px, mean }, i) => `${i ? "L" : "M"}${px.toFixed(1)} ${y(mean).toFixed(1)}`).join(""), class: `curve${name}` }),
        mark >= 0 && at.map(({ px, mean, half }) =>
          [half !== null && line(px, y(mean - half), px, y(mean + half), `whisker${name}`), glyph(px, y(mean), mark)]));
    }));
}
