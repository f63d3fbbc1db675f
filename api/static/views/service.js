// Whether the service can work, what waits and runs, and how it went over the last minutes.

import { html, useEffect, useRef } from "/static/preact.js";
import { to } from "/static/core/address.js";
import { count, t, word } from "/static/core/language.js";
import { useAsked } from "/static/core/live.js";
import { useTitle } from "/static/core/title.js";
import { Name, Time } from "/static/parts/basic.js";
import { Refusal } from "/static/parts/failure.js";
import { Stacked } from "/static/parts/stacked.js";
import { Course } from "/static/views/service/course.js";

const PAUSE = 5000;
const MOST_TASKS = 500;
const PRIORITIES = ["high", "normal", "low"];
const LOOKS = { ok: "completed", degraded: "queued", unavailable: "failed" };

const Level = ({ of: state }) => html`<span class="state ${LOOKS[state] || ""}">${word("level", state)}</span>`;

/** Every check of GET /readyz. */
function Checks({ of: view }) {
  const row = (label, name, check, isTold = false) => ({
    key: label + name,
    cells: [html`${label}${name && html` <strong><${Name} text=${name} /></strong>`}`, html`<${Level} of=${check.state} />`,
      html`<span dir="auto">${check.detail}</span>${isTold && html`<span class="muted"> ${t("health.told")}</span>`}`],
  });
  const many = (label, checks, isTold) => Object.entries(checks).map(([name, check]) => row(label, name, check, isTold));
  return html`<${Stacked} id="checks" label=${t("health.checks")} head=${[t("health.check"), t("health.state"), t("health.detail")]} rows=${[
    row(t("health.ledger"), "", view.ledger), row(t("health.server"), "", view.server), row(t("health.scheduler"), "", view.scheduler, true),
    ...many(t("health.pool"), view.pools), ...many(t("health.workers"), view.workers), ...many(t("health.executor"), view.executors, true),
  ]} />`;
}

function Readiness() {
  const { data, problem } = useAsked("/readyz", { pause: () => PAUSE });
  const view = data || (problem?.details?.ledger ? problem.details : null);
  if (!view) return html`<${Refusal} of=${problem} />`;
  return html`<p id="verdict" role="status" class=${view.ready ? "good" : "wrong verdict"}>${t(view.ready ? "health.ready" : "health.unready")}</p><${Checks} of=${view} />`;
}

/** What waits and runs, counted from the tasks that this token may see. */
function Queues() {
  const { data, problem } = useAsked(`/tasks?state=queued&state=running&state=cancelling&limit=${MOST_TASKS}`, { pause: () => PAUSE });
  const tasks = data?.tasks || [];
  const actions = [...new Set(tasks.map((task) => task.action))].sort();
  const waits = (task) => task.state === "queued";
  const cell = (some, address) => html`<td class="num">${some.length ? html`<a href=${address}>${count(some.length)}</a>` : html`<span class="muted">0</span>`}</td>`;
  const oldest = tasks.filter(waits).at(-1);
  return html`<section class="part" id="queues"><h2 id="queues-title">${t("health.queues")}</h2>
    <${Refusal} of=${problem} />
    ${data && !tasks.length && html`<p class="muted">${t("health.idle")}</p>`}
    ${tasks.length > 0 && html`<div class="scroll" tabindex="0" role="region" aria-labelledby="queues-title"><table>
      <thead><tr><th scope="col">${t("list.action")}</th>${PRIORITIES.map((each) => html`<th scope="col" class="num">${t(`health.waits.${each}`)}</th>`)}<th scope="col" class="num">${word("state", "running")}</th></tr></thead>
      <tbody>${actions.map((action) => {
        const own = tasks.filter((task) => task.action === action);
        return html`<tr key=${action}><th scope="row">${word("action", action)}</th>
          ${PRIORITIES.map((each) => cell(own.filter((task) => waits(task) && task.priority === each), to("records", "", { action, state: "queued" })))}
          ${cell(own.filter((task) => !waits(task)), to("records", "", { action, state: "running" }))}</tr>`;
      })}</tbody></table></div>
      ${oldest && data.total <= MOST_TASKS && html`<p class="muted">${t("health.oldest")} <a href=${to("record", oldest.id)}><${Time} text=${oldest.created_at} /></a></p>`}
      ${data.total > MOST_TASKS && html`<p class="muted">${t("health.newest", { n: MOST_TASKS, total: data.total })}</p>`}`}
    <p class="muted">${t("health.scope")}</p></section>`;
}

export default function Service() {
  const title = useRef(null);
  useTitle(t("nav.service"));
  useEffect(() => title.current.focus(), []);
  return html`<article id="service-view" class="card" aria-labelledby="title">
    <h1 id="title" ref=${title} tabindex="-1">${t("nav.service")}</h1>
    <${Readiness} /><${Queues} /><${Course} />
  </article>`;
}
