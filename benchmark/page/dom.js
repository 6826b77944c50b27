"use strict";
// Elements are made here and nowhere else: strings become text nodes, never markup.

const SVG = "http://www.w3.org/2000/svg";

function make(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name === "on") for (const [event, handler] of Object.entries(value)) element.addEventListener(event, handler);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

const h = (tag, attributes, ...children) => make(document.createElement(tag), attributes, children);
const s = (tag, attributes, ...children) => make(document.createElementNS(SVG, tag), attributes, children);
const byId = (id) => document.getElementById(id);

/** New children in the place of all that an element holds. */
function show(element, ...children) {
  element.replaceChildren();
  return make(element, {}, children);
}

/** A box in which something wide scrolls by itself; focusable, so that the keyboard can scroll it. */
const scrollBox = (label, child) => h("div", { class: "scroll", role: "region", "aria-label": label, tabindex: 0 }, child);

const CONDITION = { ood: "OOD", ind: "InD" };
const plural = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;

/** "63.6 ± 4.1" with the half-width set back, and a true minus. */
function figureText(interval, best) {
  const [mean, ...rest] = interval[2].replace(/^-/, "−").split(" ");
  return [h(best ? "b" : "span", { class: "mean" }, mean), " ", h("span", { class: "half" }, rest.join(" "))];
}

/** Text with `code` between backticks. */
const prose = (text) => text.split("`").map((part, i) => (i % 2 ? h("code", {}, part) : part));

/** A citation, its arXiv number linked. */
function citation(text) {
  const found = text.match(/^(.*?)arXiv:(\d{4}\.\d{4,5})(.*)$/s);
  if (!found) return text;
  const link = h("a", { href: `https://arxiv.org/abs/${found[2]}`, rel: "noopener noreferrer" }, `arXiv:${found[2]}`);
  return [found[1], link, found[3]];
}
