// Elements and text nodes, and nothing else: every word that is shown may have been written by a stranger.

import { number, t } from "./language.js";

/** An element; strings among the children become text. */
export function el(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
}

/** A name from outside, whose direction of writing stays its own. */
export const name = (text) => el("bdi", {}, String(text));

/** A number for reading, with all its digits in the title. */
export const figure = (value) => (typeof value === "number" ? el("data", { value, title: String(value) }, number(value)) : el("span", { class: "muted" }, number(value)));

/** Terms and what they are; those without are left out. */
export function facts(pairs) {
  const list = el("dl", { class: "facts" });
  for (const [term, value] of pairs) {
    if (value === null || value === undefined || value === "") continue;
    list.append(el("dt", {}, term), el("dd", {}, value));
  }
  return list.children.length ? list : null;
}

/** A table that scrolls on its own; all columns but the first `words` hold numbers. */
export function table(label, head, rows, words = 1) {
  const line = (tag, values) => el("tr", {}, ...values.map((value, column) =>
    el(column ? tag : "th", { class: column < words ? null : "num", scope: tag === "th" ? "col" : column ? null : "row" }, value)));
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label },
    el("table", {}, el("thead", {}, line("th", head)), el("tbody", {}, ...rows.map((row) => line("td", row)))));
}

const MOST_ITEMS = 50;
const SHORT = 40;
const CHOSEN = 7;

/** Any value of JSON for a person: words, lists and terms, no braces and no escapes. */
export function valueOf(value) {
  if (value === null || value === undefined) return el("span", { class: "muted" }, "–");
  if (typeof value === "boolean") return t(value ? "value.yes" : "value.no");
  // A number that somebody chose stays as it was written; one that was computed is rounded.
  if (typeof value === "number") return String(value).length <= CHOSEN ? String(value) : figure(value);
  if (typeof value === "string") return value.includes("\n") ? lines(value) : name(value);
  const items = Array.isArray(value) ? value : Object.entries(value);
  const more = items.length > MOST_ITEMS ? t("value.more", { n: items.length - MOST_ITEMS }) : null;
  const shown = items.slice(0, MOST_ITEMS);
  if (!items.length) return el("span", { class: "muted" }, "–");
  if (!Array.isArray(value)) return el("div", {}, facts(shown.map(([key, each]) => [name(key), valueOf(each)])), more);
  if (shown.every((each) => ["string", "number"].includes(typeof each) && String(each).length <= SHORT)) {
    return el("span", {}, ...shown.flatMap((each, index) => [index ? t("value.and") : null, valueOf(each)]), more && ` ${more}`);
  }
  return el("ul", {}, ...shown.map((each) => el("li", {}, valueOf(each))), more && el("li", {}, more));
}

/** Lines of a log. */
export const lines = (text) => el("pre", { tabindex: "0" }, text);

/** A part that folds; `name` tells it from others, so that it stays open when its surroundings are drawn anew. */
export function fold(name, summary, make) {
  const part = el("details", { "data-fold": name }, el("summary", {}, summary));
  // Made when it is opened first: a thousand classes cost nothing before somebody looks.
  part.fill = () => { if (part.open && part.children.length === 1) part.append(...make()); };
  part.addEventListener("toggle", part.fill);
  return part;
}
