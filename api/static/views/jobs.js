// Jobs that score one answer: a page at a time, as the address asks for it.

import { html, useEffect, useRef } from "/static/preact.js";
import { change, chosen, route, to } from "/static/core/address.js";
import { csv, save } from "/static/core/csv.js";
import { t, word } from "/static/core/language.js";
import { useAsked, useLast } from "/static/core/live.js";
import { useTitle } from "/static/core/title.js";
import { useTyped } from "/static/core/typing.js";
import { Chip, Name, Small, Time } from "/static/parts/basic.js";
import { Refusal } from "/static/parts/failure.js";
import { Filter } from "/static/parts/filters.js";
import { METRICS, Share, inOrder, saysOf } from "/static/parts/metrics.js";
import { Pages } from "/static/parts/pages.js";

const PAGE = 50;
const STATUSES = ["queued", "running", "completed", "failed"];
const DAY = /^\d{4}-\d{2}-\d{2}$/;

/** The beginning of a day here, or of the one after it, as the API takes a moment; nothing for what is no day. */
function momentOf(day, after = 0) {
  if (!DAY.test(day || "")) return null;
  const [year, month, date] = day.split("-").map(Number);
  const moment = new Date(year, month - 1, date + after);
  return Number.isNaN(moment.getTime()) ? null : moment.toISOString();
}

/** What the address asks of the list, as the API is asked for it. */
function asked(query) {
  const params = new URLSearchParams({ limit: String(PAGE) });
  for (const key of ["q", "metric", "cursor"]) if (query.get(key)) params.set(key, query.get(key));
  const status = chosen(query, "status", ["", ...STATUSES]);
  if (status) params.set("status", status);
  const [since, until] = [momentOf(query.get("since")), momentOf(query.get("until"), 1)];
  if (since) params.set("since", since);
  if (until) params.set("until", until);
  return params;
}

function Filters({ query, metrics }) {
  const field = useRef(null);
  const q = query.get("q") || "";
  // Going back changes what is looked for; what is being typed stays.
  useEffect(() => {
    if (document.activeElement !== field.current) field.current.value = q;
  }, [q]);
  const set = (values, options) => change({ ...values, cursor: "" }, options);
  const [typed, stop] = useTyped(() => set({ q: field.current.value.trim() }, { replace: true }));
  const submit = (event) => {
    event.preventDefault();
    stop();
    set({ q: field.current.value.trim() });
  };
  const day = (key) => html`<label class="field"><span>${t(`jobs.${key}`)}</span>
    <input id=${key} type="date" value=${DAY.test(query.get(key) || "") ? query.get(key) : ""} onChange=${(event) => set({ [key]: event.target.value })} /></label>`;
  return html`<form id="filters" role="search" aria-label=${t("jobs.filter")} onSubmit=${submit}>
    <label class="field grow"><span>${t("jobs.find")}</span>
      <input id="q" ref=${field} type="search" defaultValue=${q} autocomplete="off" spellcheck=${false} maxlength="200" placeholder=${t("jobs.find.hint")} onInput=${typed} /></label>
    <details class="narrowing" open=${!matchMedia("(max-width: 640px)").matches}><summary>${t("jobs.filter")}</summary><div class="choices">
      <${Filter} id="status" label=${t("filter.state")} value=${chosen(query, "status", ["", ...STATUSES])} of=${STATUSES.map((each) => [each, word("state", each)])} onChange=${(status) => set({ status })} />
      <${Filter} id="metric" label=${t("jobs.metric")} value=${query.get("metric") || ""} of=${metrics.map((each) => [each, each])} onChange=${(metric) => set({ metric })} />
      ${day("since")}${day("until")}</div></details>
  </form>`;
}

/** A long name of a metric may break after each word of it. */
const broken = (name) => name.split("_").map((part, place, all) => html`${part}${place < all.length - 1 && html`_<wbr />`}`);

const judgeOf = (job) => job.request_summary.judge_model;

function Row({ job, metrics }) {
  const { question, answer } = job.request_summary;
  const cell = (key, children, { label, isNumber } = {}) => html`<td role="cell" key=${key} data-key=${key} class=${isNumber ? "num" : null} data-label=${label}>${children}</td>`;
  return html`<tr role="row" data-id=${job.job_id}>
    ${cell("name", html`<a href=${to("job", job.job_id)}><${Name} text=${question || job.job_id} /></a>${answer && html`<${Small}><${Name} text=${answer} /></>`}`)}
    ${cell("state", html`<${Chip} state=${job.status} />`)}
    ${cell("created", html`<${Time} text=${job.created_at} short />`)}
    ${cell("score", typeof job.weighted_score === "number" ? html`<strong><${Share} value=${job.weighted_score} /></strong>` : null, { isNumber: true })}
    ${metrics.map((metric) => cell(`metric-${metric}`,
      metric in job.scores ? html`<${Share} value=${job.scores[metric]} />` : job.skipped_metrics.includes(metric) ? html`<${Share} status="skipped" />` : null,
      { label: metric, isNumber: true }))}
    ${cell("judge", judgeOf(job) && html`<${Name} text=${judgeOf(job)} />`, { label: t("job.judge") })}
    ${cell("who", job.caller && html`<${Name} text=${job.caller} />`, { label: t("jobs.who") })}
  </tr>`;
}

function Table({ jobs, metrics, isStale }) {
  const head = (key, children, isNumber, title) => html`<th role="columnheader" scope="col" key=${key} data-key=${key} class=${isNumber ? "num" : null} title=${title || null}>${children}</th>`;
  return html`<div class="scroll" tabindex="0" role="region" aria-labelledby="title"><table role="table" class=${isStale ? "records jobs stale" : "records jobs"}>
    <thead role="rowgroup"><tr role="row">
      ${head("name", t("job.question"))}${head("state", t("filter.state"))}${head("created", t("list.created"))}${head("score", t("job.weighted"), true)}
      ${metrics.map((metric) => head(`metric-${metric}`, html`<bdi>${broken(metric)}</bdi>`, true, saysOf(metric)))}
      ${head("judge", t("job.judge"))}${head("who", t("jobs.who"))}</tr></thead>
    <tbody role="rowgroup" id="rows">${jobs.map((job) => html`<${Row} key=${job.job_id} job=${job} metrics=${metrics} />`)}</tbody>
  </table></div>`;
}

function Empty({ query }) {
  const name = query.get("q");
  const isFiltered = [...query.keys()].some((key) => key !== "lang");
  const text = query.get("cursor") ? t("list.none.page") : name ? t("jobs.none.named", { name }) : t(isFiltered ? "jobs.none.filtered" : "jobs.none");
  return html`<p class="empty" id="empty">${text} ${isFiltered && html`<a href=${to("jobs")}>${t("filter.clear")}</a>`}</p>`;
}

const saved = (jobs, metrics) => save("score-jobs.csv", csv([
  ["id", "question", "answer", "status", "weighted_score", "coverage", ...metrics, "judge", "caller", "created_at", "finished_at", "error"],
  ...jobs.map((job) => [
    job.job_id, job.request_summary.question, job.request_summary.answer, job.status, job.weighted_score, job.coverage,
    ...metrics.map((metric) => job.scores[metric]), judgeOf(job), job.caller, job.created_at, job.finished_at, job.error]),
]));

export default function Jobs() {
  const { query } = route.value;
  const title = useRef(null);
  const { data, problem } = useAsked(`/api/score/jobs?${asked(query)}`, {
    pause: (page) => (page.jobs?.some((job) => ["queued", "running"].includes(job.status)) ? 2000 : 5000),
  });
  const q = query.get("q");
  useTitle(q ? t("jobs.titled", { name: q }) : t("nav.jobs"));
  // Another filter: what is there stays until the answer has come.
  const page = useLast(data, problem);
  const metrics = inOrder((page?.jobs || []).flatMap((job) => [...Object.keys(job.scores), ...job.skipped_metrics]));
  const known = query.get("metric") && !METRICS.includes(query.get("metric")) ? [...METRICS, query.get("metric")] : METRICS;
  return html`<section id="list" class="card">
    <div class="title-line"><h1 id="title" ref=${title} tabindex="-1">${t("nav.jobs")}</h1>
      <p id="count" class="muted" role="status">${page && t("jobs.count", { n: page.total })}</p>
      <div class="tools"><button type="button" id="csv" disabled=${!page?.jobs.length} onClick=${() => saved(page.jobs, metrics)}>${t("list.csv")}</button></div></div>
    <${Filters} query=${query} metrics=${known} />
    <${Refusal} of=${problem} />
    ${page && page.jobs.length > 0 && html`<${Table} jobs=${page.jobs} metrics=${metrics} isStale=${!data} />`}
    ${page && !page.jobs.length && html`<${Empty} query=${query} />`}
    ${page && html`<${Pages} next=${page.next_cursor} cursor=${query.get("cursor") || ""} onTurn=${() => title.current.focus()} />`}
  </section>`;
}
