// How a score went over time: the drawing, and in words what its parts mean.

import { html } from "/static/preact.js";
import { t } from "/static/core/language.js";
import { History } from "/static/parts/charts.js";

function Sign({ look, children }) {
  return html`<li><svg class="history sign" viewBox="0 0 24 12" aria-hidden="true">${look === "band"
    ? html`<rect class="band" width="24" height="12" />`
    : html`<line class=${look} x1="0" x2="24" y1="6" y2="6" />`}</svg> ${children}</li>`;
}

/** Scores in their order; nothing where there is none.
 *
 * @param points As `History` takes them, the oldest first.
 * @param line What it takes to pass, or nothing.
 * @param marked What a mark means.
 */
export function Course({ points, line, label, marked }) {
  const some = points.filter((each) => typeof each.value === "number");
  if (!some.length) return null;
  const ends = points.length > 1 ? [points[0].short, points.at(-1).short] : [];
  return html`<figure class="course"><${History} points=${points} line=${line} label=${label} ends=${ends} />
    <figcaption><ul class="plain signs">
      ${some.some((each) => typeof each.low === "number") && some.length > 1 && html`<${Sign} look="band">${t("course.band")}</>`}
      ${typeof line === "number" && html`<${Sign} look="goal">${t("course.line")}</>`}
      ${some.some((each) => each.mark) && html`<${Sign} look="mark">${marked}</>`}
    </ul></figcaption></figure>`;
}
