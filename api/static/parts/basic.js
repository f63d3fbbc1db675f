// The smallest parts of every view. What is shown is always text: it may have been written by a stranger.

import { html, useState } from "/static/preact.js";
import { moment, number, t, word } from "/static/core/language.js";

/** A name from outside, whose direction of writing stays its own. */
export const Name = ({ text }) => html`<bdi>${String(text)}</bdi>`;

/** A number for reading, with all its digits in the title. */
export function Figure({ value }) {
  if (typeof value !== "number") return html`<span class="muted">${number(value)}</span>`;
  return html`<data value=${value} title=${String(value)}>${number(value)}</data>`;
}

export const Muted = ({ children }) => html`<span class="muted">${children}</span>`;
export const Mono = ({ text }) => html`<span class="mono"><${Name} text=${text} /></span>`;

/** A second line in a cell of a table. */
export const Small = ({ children }) => html`<span class="small muted">${children}</span>`;

/** A state in its colour. */
export const Chip = ({ state, list = "state" }) => html`<span class="state ${state}">${word(list, state)}</span>`;

/** Which way is better, as an arrow that is read out in words. */
export function Direction({ isHigher }) {
  const said = t(isHigher ? "score.higher" : "score.lower");
  return html`<span class="muted" role="img" aria-label=${said} title=${said}>${isHigher ? "↑" : "↓"}</span>`;
}

/** A moment; `short` is the time of day, or the day where that is not today. */
export function Time({ text, short = false }) {
  const said = moment(text, short);
  return said ? html`<time datetime=${text} title=${said[1]}>${said[0]}</time>` : html`${text || "–"}`;
}

/** The ends of an interval; nothing where there is none. */
export function Span({ of }) {
  if (!of || typeof of.low !== "number" || typeof of.high !== "number") return null;
  return html`<span title="${of.low} – ${of.high}">${number(of.low)} – ${number(of.high)}</span>`;
}

/** Terms and what they are, as [term, value] pairs; those without a value are left out. */
export function Facts({ of }) {
  const there = of.filter((pair) => pair && pair[1] !== null && pair[1] !== undefined && pair[1] !== "" && pair[1] !== false);
  return there.length ? html`<dl class="facts">${there.map(([term, value]) => html`<dt>${term}</dt><dd>${value}</dd>`)}</dl>` : null;
}

/** A table that scrolls on its own; all columns but the first `words` hold numbers. */
export function Table({ label, head, rows, words = 1 }) {
  const look = (column) => (column < words ? null : "num");
  return html`<div class="scroll" tabindex="0" role="region" aria-label=${label}><table>
    <thead><tr>${head.map((each, column) => html`<th scope="col" class=${look(column)}>${each}</th>`)}</tr></thead>
    <tbody>${rows.map((row) => html`<tr>${row.map((each, column) => (column
      ? html`<td class=${look(column)}>${each}</td>`
      : html`<th scope="row">${each}</th>`))}</tr>`)}</tbody>
  </table></div>`;
}

/** A part that folds. Its inside is made when it is opened first: a thousand classes cost nothing before somebody looks. */
export function Fold({ summary, open = false, children }) {
  const [made, make] = useState(open);
  return html`<details open=${open} onToggle=${(event) => { if (event.target.open) make(true); }}>
    <summary>${summary}</summary>${made ? (typeof children === "function" ? children() : children) : null}</details>`;
}

/** Lines of a log. */
export const Lines = ({ text, label }) => html`<pre tabindex="0" role="region" aria-label=${label}>${text}</pre>`;

/** A heading with what belongs to it; nothing where that is nothing. */
export function Part({ title, children, id }) {
  return html`<section class="part" id=${id}><h2>${title}</h2>${children}</section>`;
}

const MOST_ITEMS = 50;
const SHORT = 40;
const CHOSEN = 7;

/** Any value of JSON for a person: words, lists and terms, no braces and no escapes. */
export function Value({ of: value }) {
  if (value === null || value === undefined) return html`<${Muted}>–</>`;
  if (typeof value === "boolean") return html`${t(value ? "value.yes" : "value.no")}`;
  // A number that somebody chose stays as it was written; one that was computed is rounded.
  if (typeof value === "number") return String(value).length <= CHOSEN ? html`${String(value)}` : html`<${Figure} value=${value} />`;
  if (typeof value === "string") return value.includes("\n") ? html`<${Lines} text=${value} />` : html`<${Name} text=${value} />`;
  const items = Array.isArray(value) ? value : Object.entries(value);
  const more = items.length > MOST_ITEMS ? t("value.more", { n: items.length - MOST_ITEMS }) : null;
  const shown = items.slice(0, MOST_ITEMS);
  if (!items.length) return html`<${Muted}>–</>`;
  if (!Array.isArray(value)) {
    return html`<div><${Facts} of=${shown.map(([key, each]) => [html`<${Name} text=${key} />`, html`<${Value} of=${each} />`])} />${more}</div>`;
  }
  if (shown.every((each) => ["string", "number"].includes(typeof each) && String(each).length <= SHORT)) {
    return html`<span>${shown.map((each, index) => html`${index ? t("value.and") : null}<${Value} of=${each} />`)}${more && ` ${more}`}</span>`;
  }
  return html`<ul>${shown.map((each) => html`<li><${Value} of=${each} /></li>`)}${more && html`<li>${more}</li>`}</ul>`;
}
