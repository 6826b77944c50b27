// Figures are SVG at one unit a pixel, drawn for the width that they have; colours and type are the style sheet's.

/** Linear scale from [a, b] to [c, d]. */
const scale = (a, b, c, d) => (x) => c + ((x - a) / (b - a || 1)) * (d - c);

/** Round values within [low, high], about `count` of them. */
function ticks(low, high, count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough || 1));
  const step = [1, 2, 5, 10].map((m) => m * power).find((candidate) => candidate >= rough) ?? rough;
  const values = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9; i++) values.push(Number((i * step).toPrecision(10)));
  return values;
}

/** [low, high] of numbers, null left out, with a margin of 4%. */
function extent(values) {
  const known = values.filter((value) => value !== null && value !== undefined && Number.isFinite(value));
  const low = Math.min(...known), high = Math.max(...known);
  const margin = (high - low) * 0.04 || 1;
  return known.length ? [low - margin, high + margin] : [0, 100];
}

/** All ends of intervals: mean - half, mean + half. */
const ends = (intervals) => intervals.filter(Boolean).flatMap(([mean, half]) => [mean - (half ?? 0), mean + (half ?? 0)]);

const picture = (width, height, label, ...children) =>
  s("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label }, s("title", {}, label), ...children);
const line = (x1, y1, x2, y2, name) => s("line", { x1, y1, x2, y2, class: name });
const words = (x, y, text, name, anchor) => s("text", { x, y, class: name, "text-anchor": anchor }, text);
const hint = (text) => s("title", {}, text);

/** The mark of the i-th marked method, a shape of its own; any other method (-1) is a small grey disc. */
function glyph(x, y, i) {
  const name = i < 0 ? "other" : `fill m${i}`;
  if (i === 1) return s("rect", { x: x - 4.2, y: y - 4.2, width: 8.4, height: 8.4, class: name });
  if (i === 2) return s("path", { d: `M${x} ${y - 5.6}l5.4 9.6h-10.8z`, class: name });
  if (i === 3) return s("path", { d: `M${x} ${y - 6}l6 6-6 6-6-6z`, class: name });
  return s("circle", { cx: x, cy: y, r: i < 0 ? 3 : 4.8, class: name });
}

/** A row's dot with its interval. */
function dot(row, x, y, at, interval, mark, whisker = true) {
  const [mean, half, text] = interval;
  const stroke = mark < 0 ? "whisker" : `whisker m${mark}`;
  const low = half === null ? mean : mean - half, high = half === null ? mean : mean + half;
  return s("g", { class: "pick", "data-method": row.name }, hint(`${row.title}: ${text}`),
    whisker && half !== null && line(x(low), y, x(high), y, stroke), glyph(x(at ?? mean), y, mark));
}

function axisBelow(x, [low, high], y, width, count) {
  return ticks(low, high, count).map((value) => words(x(value), y, String(value), "tick", "middle"));
}

/** The interval of one table row on the axis that all rows share, with floor and ceiling. */
function strip(row, interval, domain, floor, ceiling, mark) {
  const width = 134, height = 22, x = scale(domain[0], domain[1], 5, width - 5);
  return s("svg", { width, height, viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true", class: "strip" },
    band(x, 0, height, floor, ceiling), interval && dot(row, x, height / 2, null, interval, mark));
}

/** From floor to ceiling: a tint with a line at each end. */
function band(x, top, height, floor, ceiling) {
  const has = (value) => value !== null && value !== undefined;
  return [
    has(floor) && has(ceiling) && s("rect", { x: Math.min(x(floor), x(ceiling)), y: top, width: Math.abs(x(ceiling) - x(floor)), height, class: "band" }),
    has(floor) && line(x(floor), top, x(floor), top + height, "floor"),
    has(ceiling) && line(x(ceiling), top, x(ceiling), top + height, "ceiling"),
  ];
}

/** One line a task: all methods as dots between floor and ceiling, the marked ones with intervals.
 *  lines: [{label, group, floor, ceiling, points: [[row, interval]]}]; markOf: row name -> index or -1. */
function tasksFigure(width, lines, markOf, label) {
  const narrow = width < 620, left = narrow ? 6 : 210, right = 14, step = narrow ? 44 : 29;
  const domain = extent(lines.flatMap((l) => [l.floor, l.ceiling, ...ends(l.points.map((point) => point[1]))]));
  const x = scale(domain[0], domain[1], left, width - right);
  const parts = [];
  let y = 18, group = null;
  const rows = [];
  for (const l of lines) {
    if (l.group !== group) {
      y += group === null ? 4 : 20;
      rows.push(words(narrow ? 0 : left - 12, y, l.group, "group", narrow ? "start" : "end"));
      y += narrow ? 12 : 6;
      group = l.group;
    }
    if (narrow) rows.push(words(0, y + 8, l.label, "label", "start"));
    const middle = narrow ? y + 25 : y + step / 2;
    if (!narrow) rows.push(words(left - 12, middle + 4, l.label, "label", "end"));
    rows.push(line(left, middle, width - right, middle, "rule"), band(x, middle - 10, 20, l.floor, l.ceiling));
    const order = [...l.points].sort((a, b) => markOf(b[0].name) - markOf(a[0].name)).reverse();
    const marked = order.filter(([row]) => markOf(row.name) >= 0).length;
    let seen = 0;
    for (const [row, interval] of order) {
      const mark = markOf(row.name);
      const shift = mark < 0 ? 0 : (seen++ - (marked - 1) / 2) * 5.6;
      rows.push(dot(row, x, middle + shift, null, interval, mark, mark >= 0));
    }
    y += step;
  }
  const bottom = y + 6;
  for (const value of ticks(...domain, narrow ? 5 : 9)) parts.push(line(x(value), 10, x(value), bottom, "grid"));
  return picture(width, bottom + 22, label, parts, rows, axisBelow(x, domain, bottom + 15, width, narrow ? 5 : 9));
}

/** One line a method, with its interval: a task's panel. points: [[row, interval]]. */
function ladder(width, points, floor, ceiling, markOf, label) {
  const narrow = width < 520, left = narrow ? 6 : 246, right = 14, step = narrow ? 34 : 22;
  const domain = extent([floor, ceiling, ...ends(points.map((point) => point[1]))]);
  const x = scale(domain[0], domain[1], left, width - right);
  const bottom = 22 + points.length * step;
  const ends_ = [[floor, "floor"], [ceiling, "ceiling"]].filter(([value]) => value !== null && value !== undefined);
  return picture(width, bottom + 22, label,
    ticks(...domain, narrow ? 5 : 8).map((value) => line(x(value), 18, x(value), bottom, "grid")),
    band(x, 18, bottom - 18, floor, ceiling),
    ends_.map(([value, name]) => words(x(value), 11, name, "tick", x(value) > width - 40 ? "end" : "middle")),
    points.map(([row, interval], i) => {
      const top = 22 + i * step, middle = narrow ? top + 24 : top + step / 2, mark = markOf(row.name);
      const name = mark < 0 ? "label" : "label strong";
      return [narrow ? words(0, top + 11, row.title, name, "start") : words(left - 12, middle + 4, clipped(row.title, 34), name, "end"),
        dot(row, x, middle, null, interval, mark)];
    }),
    axisBelow(x, domain, bottom + 15, width, narrow ? 5 : 8));
}

const clipped = (text, length) => (text.length > length ? `${text.slice(0, length - 1)}…` : text);

/** Means of InD (x) and OOD (y). points: [[row, ind, ood]]. */
function scatter(width, points, markOf, label) {
  const size = width, height = Math.min(size, 470), left = 46, bottom = 42, top = 12, right = 14;
  const marked = points.filter(([row]) => markOf(row.name) >= 0);
  const dx = extent([...points.map(([, ind]) => ind[0]), ...ends(marked.map(([, ind]) => ind))]);
  const dy = extent([...points.map(([, , ood]) => ood[0]), ...ends(marked.map(([, , ood]) => ood))]);
  const x = scale(...dx, left, size - right), y = scale(...dy, height - bottom, top);
  const low = Math.max(dx[0], dy[0]), high = Math.min(dx[1], dy[1]);
  // Labels keep clear of dots and one another, and of whiskers where they can; one without a place is left to the pointer.
  const taken = points.map(([, ind, ood]) => [x(ind[0]) - 6, y(ood[0]) - 6, x(ind[0]) + 6, y(ood[0]) + 6]);
  const whiskers = marked.flatMap(([, [mx, hx], [my, hy]]) => [
    [x(mx - (hx ?? 0)), y(my) - 1, x(mx + (hx ?? 0)), y(my) + 1], [x(mx) - 1, y(my + (hy ?? 0)), x(mx) + 1, y(my - (hy ?? 0))]]);
  const clear = (box, boxes) => boxes.every((other) => box[2] < other[0] || other[2] < box[0] || box[3] < other[1] || other[3] < box[1]);
  const order = [...points].sort((a, b) => markOf(b[0].name) - markOf(a[0].name));
  const labels = order.map(([row, ind, ood]) => {
    const text = clipped(row.title, 34), w = text.length * 6.3, mark = markOf(row.name);
    const px = x(ind[0]), py = y(ood[0]);
    const places = [[9, 4, "start"], [-9, 4, "end"], [7, -9, "start"], [7, 17, "start"], [-7, -9, "end"], [-7, 17, "end"], [0, -10, "middle"], [0, 19, "middle"]];
    for (const obstacles of [[...taken, ...whiskers], taken]) {
      for (const [ox, oy, anchor] of places) {
        const start = px + ox - (anchor === "end" ? w : anchor === "middle" ? w / 2 : 0);
        const box = [start, py + oy - 10, start + w, py + oy + 3];
        if (box[0] > left && box[2] < size && box[1] > 0 && box[3] < height - bottom && clear(box, obstacles)) {
          taken.push(box);
          return words(px + ox, py + oy, text, mark < 0 ? "label quiet" : "label strong", anchor);
        }
      }
    }
    return null;
  });
  return picture(size, height, label,
    ticks(dx[0], dx[1], 6).map((value) => [line(x(value), top, x(value), height - bottom, "grid"), words(x(value), height - bottom + 16, String(value), "tick", "middle")]),
    ticks(dy[0], dy[1], 6).map((value) => [line(left, y(value), size - right, y(value), "grid"), words(left - 8, y(value) + 4, String(value), "tick", "end")]),
    low < high && line(x(low), y(low), x(high), y(high), "diagonal"),
    words((left + size) / 2, height - 6, "InD, mean score", "axis", "middle"),
    s("text", { transform: `translate(12 ${(height - bottom) / 2}) rotate(-90)`, class: "axis", "text-anchor": "middle" }, "OOD, mean score"),
    [...order].reverse().map(([row, ind, ood]) => {
      const mark = markOf(row.name), px = x(ind[0]), py = y(ood[0]), stroke = `whisker m${mark}`;
      return s("g", { class: "pick", "data-method": row.name }, hint(`${row.title}: InD ${ind[2]}, OOD ${ood[2]}`),
        mark >= 0 && ind[1] !== null && line(x(ind[0] - ind[1]), py, x(ind[0] + ind[1]), py, stroke),
        mark >= 0 && ood[1] !== null && line(px, y(ood[0] - ood[1]), px, y(ood[0] + ood[1]), stroke),
        glyph(px, py, mark));
    }),
    labels);
}

/** Learned weights (y) against supervisors' scores (x). points: [x, y, hint]; centre: a vertical line, or null. */
function weightsFigure(width, points, mark, axis, centre, label) {
  const size = Math.min(width, 460), height = 260, left = 40, bottom = 42, top = 24, right = 14;
  const domain = extent(points.map((point) => point[0]));
  const x = scale(...domain, left, size - right), y = scale(0, 1, height - bottom, top);
  return picture(size, height, label,
    ticks(...domain, 6).map((value) => [line(x(value), top, x(value), height - bottom, "grid"), words(x(value), height - bottom + 16, String(value), "tick", "middle")]),
    [0, 0.5, 1].map((value) => [line(left, y(value), size - right, y(value), "grid"), words(left - 8, y(value) + 4, String(value), "tick", "end")]),
    centre !== null && line(x(centre), top, x(centre), height - bottom, "diagonal"),
    words((left + size) / 2, height - 6, axis, "axis", "middle"), words(left - 8, 11, "weight", "axis", "start"),
    points.map(([px, py, text]) => s("g", {}, hint(text), s("circle", { cx: x(px), cy: y(py), r: 3.4, class: mark < 0 ? "cloud" : `cloud m${mark}` }))));
}

/** Stress curves of one base task and kind of damage. curves: [{method, levels, means, halves}]. */
function stressFigure(width, curves, rowOf, markOf, domain, label) {
  const height = 190, left = 36, bottom = 34, top = 8, right = 12;
  const levels = [...new Set(curves.flatMap((curve) => curve.levels))].sort((a, b) => a - b);
  const x = scale(0, Math.max(levels.length - 1, 1), left + 8, width - right - 6), y = scale(...domain, height - bottom, top);
  const at = (level) => x(levels.indexOf(level));
  const order = [...curves].sort((a, b) => markOf(a.method) - markOf(b.method));
  return picture(width, height, label,
    ticks(...domain, 4).map((value) => [line(left, y(value), width - right, y(value), "grid"), words(left - 6, y(value) + 4, String(value), "tick", "end")]),
    levels.map((level, i) => words(x(i), height - bottom + 15, String(level), "tick", "middle")),
    words((left + width) / 2, height - 4, "level", "axis", "middle"),
    order.map((curve) => {
      const mark = markOf(curve.method), name = mark < 0 ? "" : ` m${mark}`;
      const path = curve.levels.map((level, i) => `${i ? "L" : "M"}${at(level).toFixed(1)} ${y(curve.means[i]).toFixed(1)}`).join("");
      return s("g", { class: "pick", "data-method": curve.method }, hint(rowOf(curve.method)?.title ?? curve.method),
        s("path", { d: path, class: `curve${name}` }),
        mark >= 0 && curve.levels.map((level, i) => [
          curve.halves[i] !== null && line(at(level), y(curve.means[i] - curve.halves[i]), at(level), y(curve.means[i] + curve.halves[i]), `whisker${name}`),
          glyph(at(level), y(curve.means[i]), mark)]));
    }));
}
