// @ts-check
"use strict";
// Elements are made here and nowhere else: strings become text nodes, never markup.

/** @type {<E extends Element>(element: E, attributes: Attributes, children: Child[]) => E} */
function make(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, String(value));
  }
  for (const child of children) {
    if (Array.isArray(child)) make(element, {}, child);
    else if (child !== null && child !== undefined && child !== false) element.append(child);
  }
  return element;
}

/** @type {<T extends keyof HTMLElementTagNameMap>(tag: T, attributes: Attributes, ...children: Child[]) => HTMLElementTagNameMap[T]} */
const h = (tag, attributes, ...children) => make(document.createElement(tag), attributes, children);
/** @type {<T extends keyof SVGElementTagNameMap>(tag: T, attributes: Attributes, ...children: Child[]) => SVGElementTagNameMap[T]} */
const s = (tag, attributes, ...children) => make(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
const byId = (/** @type {string} */ id) => /** @type {HTMLElement} */ (document.getElementById(id));

/** New children in the place of all that an element holds. @type {(element: Element, ...children: Child[]) => void} */
function show(element, ...children) {
  element.replaceChildren();
  make(element, {}, children);
}

/** A table in a box in which it scrolls by itself; focusable, so that the keyboard can scroll it. @type {(label: string, table: HTMLTableElement) => HTMLElement} */
const scrollBox = (label, table) => h("div", { class: "scroll", role: "region", "aria-label": label, tabindex: 0 }, table);

/** @type {{ [name: string]: string }} */
const CONDITION = { ood: "OOD", ind: "InD" };
const plural = (/** @type {number} */ count, /** @type {string} */ word) => `${count} ${word}${count === 1 ? "" : "s"}`;
const meanOf = (/** @type {number[]} */ values) => values.reduce((a, b) => a + b, 0) / values.length;

/** Mean over families of means over their tasks. @type {(tasks: { family: string, value: number }[]) => number} */
const meanOverFamilies = (tasks) => meanOf([...new Set(tasks.map(({ family }) => family))].map((name) =>
  meanOf(tasks.filter(({ family }) => family === name).map(({ value }) => value))));

/** Text with `code` between backticks. @type {(text: string) => Child[]} */
const prose = (text) => text.split("`").map((part, i) => (i % 2 ? h("code", {}, part) : part));

/** A citation, its arXiv number linked. @type {(text: string) => Child} */
function citation(text) {
  const found = text.match(/^(.*?)arXiv:(\d{4}\.\d{4,5})(.*)$/s);
  if (!found) return text;
  return [found[1], h("a", { href: `https://arxiv.org/abs/${found[2]}`, rel: "noopener noreferrer" }, `arXiv:${found[2]}`), found[3]];
}
