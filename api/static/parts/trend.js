// How a number went over the last minutes, small.

import { html } from "/static/preact.js";
import { rough, seconds, t } from "/static/core/language.js";

const WIDTH = 240;
const HEIGHT = 56;
const EDGE = 4;

/** A number now, and how it went.
 *
 * @param points [milliseconds, value or null] pairs, the newest last.
 * @param span Milliseconds that the whole width stands for.
 */
export function Trend({ label, points, span, unit = "" }) {
  const there = points.filter(([, value]) => value !== null);
  const now = points.at(-1)?.[1] ?? null;
  const values = there.map(([, value]) => value);
  const highest = Math.max(1, ...values);
  const end = points.at(-1)?.[0] ?? 0;
  const x = (time) => WIDTH - EDGE - ((end - time) / span) * (WIDTH - 2 * EDGE);
  const y = (value) => HEIGHT - EDGE - (value / highest) * (HEIGHT - 2 * EDGE);
  const line = there.map(([time, value]) => `${x(time).toFixed(1)},${y(value).toFixed(1)}`);
  const ends = { low: rough(Math.min(...values)), high: rough(Math.max(...values)) };
  const said = values.length ? t("health.trend", { label, now: rough(now), ...ends, span: seconds((end - there[0][0]) / 1000) }) : t("health.trend.none", { label });
  const foot = (time) => `${x(time).toFixed(1)},${HEIGHT - EDGE}`;
  return html`<figure class="trend"><figcaption>${label}</figcaption>
    <p class="trend-now"><strong>${rough(now)}</strong> ${now !== null && unit}</p>
    <svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label=${said}>
      <line class="grid" x1=${EDGE} x2=${WIDTH - EDGE} y1=${HEIGHT - EDGE} y2=${HEIGHT - EDGE} />
      ${line.length > 1 && html`<polygon class="band" points=${[foot(there[0][0]), ...line, foot(there.at(-1)[0])].join(" ")} />
        <polyline class="values" points=${line.join(" ")} />`}
      ${line.length > 0 && html`<circle class="value" cx=${x(there.at(-1)[0])} cy=${y(there.at(-1)[1])} r="3" />`}</svg></figure>`;
}
