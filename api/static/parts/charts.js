// Small drawings, made by hand as SVG: they are drawn by the same palette as the page, and say in words what they show.

import { html } from "/static/preact.js";
import { number, t } from "/static/core/language.js";

/** A score on its scale with its interval. `scale` is [lowest, highest]; outside of it nothing is drawn. */
export function IntervalBar({ value, low, high, scale = [0, 1], threshold }) {
  const [from, until] = scale;
  if (typeof value !== "number" || value < from || value > until || until <= from) return null;
  const at = (number_) => Math.max(0, Math.min(100, ((number_ - from) / (until - from)) * 100));
  const hasInterval = typeof low === "number" && typeof high === "number";
  const said = hasInterval ? `${number(value)} (${number(low)} – ${number(high)})` : number(value);
  return html`<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" role="img" aria-label=${said}>
    <rect class="bar-all" x="0" y="4" width="100" height="2" rx="1" />
    ${hasInterval && html`<rect class="bar-span" x=${at(low)} y="2.5" width=${Math.max(1, at(high) - at(low))} height="5" rx="1" />`}
    ${typeof threshold === "number" && threshold >= from && threshold <= until && html`<rect class="bar-line" x=${at(threshold) - 0.4} y="0" width="0.8" height="10" />`}
    <rect class="bar-value" x=${at(value) - 0.8} y="1" width="1.6" height="8" rx="0.8" />
  </svg>`;
}

const WIDTH = 640;
const HEIGHT = 200;
const EDGE = { left: 56, right: 12, top: 12, bottom: 26 };

/** Values in their order, with bands and marks.
 *
 * @param points [{value, low, high, label, mark}]; `mark` says what changed there. A value of null leaves a gap.
 * @param line A value to reach, or nothing.
 * @param ends What is written below the first point and the last one.
 */
export function History({ points, line, label, ends = [] }) {
  const numbers = points.flatMap((each) => [each.value, each.low, each.high]).concat(line).filter((each) => typeof each === "number");
  if (!numbers.length) return null;
  let [low, high] = [Math.min(...numbers), Math.max(...numbers)];
  if (low === high) [low, high] = [low - 0.5, high + 0.5];
  const pad = (high - low) * 0.06;
  const y = (value) => EDGE.top + (1 - (value - (low - pad)) / (high - low + 2 * pad)) * (HEIGHT - EDGE.top - EDGE.bottom);
  const x = (index) => EDGE.left + (points.length === 1 ? 0.5 : index / (points.length - 1)) * (WIDTH - EDGE.left - EDGE.right);
  const there = points.map((each, index) => ({ ...each, index })).filter((each) => typeof each.value === "number");
  const banded = there.filter((each) => typeof each.low === "number" && typeof each.high === "number");
  const path = (list, key) => list.map((each) => `${x(each.index).toFixed(1)},${y(each[key]).toFixed(1)}`);
  const ticks = [low, (low + high) / 2, high];
  const last = there.at(-1);
  const said = t("chart.history", { label, n: there.length, first: number(there[0].value), last: number(last.value) });
  return html`<svg class="history" viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label=${said}>
    ${ticks.map((each) => html`<line class="grid" x1=${EDGE.left} x2=${WIDTH - EDGE.right} y1=${y(each)} y2=${y(each)} />
      <text x=${EDGE.left - 8} y=${y(each) + 4} text-anchor="end">${number(each)}</text>`)}
    ${banded.length > 1 && html`<polygon class="band" points=${[...path(banded, "high"), ...path(banded, "low").reverse()].join(" ")} />`}
    ${typeof line === "number" && html`<line class="goal" x1=${EDGE.left} x2=${WIDTH - EDGE.right} y1=${y(line)} y2=${y(line)} />`}
    ${there.filter((each) => each.mark).map((each) => html`<line class="mark" x1=${x(each.index)} x2=${x(each.index)} y1=${EDGE.top} y2=${HEIGHT - EDGE.bottom}><title>${each.mark}</title></line>`)}
    ${ends.map((each, index) => html`<text x=${index ? WIDTH - EDGE.right : EDGE.left} y=${HEIGHT - 8} text-anchor=${index ? "end" : "start"}>${each}</text>`)}
    <polyline class="values" points=${path(there, "value").join(" ")} />
    ${there.map((each) => html`<circle class="value" cx=${x(each.index)} cy=${y(each.value)} r="3.5"><title>${each.label}: ${number(each.value)}</title></circle>`)}
  </svg>`;
}
