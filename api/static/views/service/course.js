// How it went: numbers of GET /metrics, read again and again while somebody looks, and what they are since the API's start.

import { html, useEffect, useState } from "/static/preact.js";
import { fetchFile, token } from "/static/core/api.js";
import { bytes, count, seconds, t, word } from "/static/core/language.js";
import { samples, total } from "/static/core/prometheus.js";
import { Facts, Name, Time } from "/static/parts/basic.js";
import { Refusal } from "/static/parts/failure.js";
import { Trend } from "/static/parts/trend.js";

const PAUSE = 5000;
const SPAN = 600000;
// Milliseconds that a rate is taken over: of a shorter time it would jump.
const RATE_OVER = 60000;

const read = async (path) => new TextDecoder().decode(await fetchFile(path));

/** What is kept of a look for the drawings. */
const lookOf = (time, found) => ({
  time,
  queued: total(found, "autoscorer_queue_depth"),
  running: total(found, "autoscorer_tasks", { state: "running" }),
  models: total(found, "autoscorer_containers"),
  finished: total(found, "autoscorer_tasks_finished_total") ?? 0,
  waited: total(found, "autoscorer_stage_seconds_sum", { stage: "queue" }) ?? 0,
  began: total(found, "autoscorer_stage_seconds_count", { stage: "queue" }) ?? 0,
  requests: total(found, "autoscorer_http_requests_total") ?? 0,
});

/** The looks of the last minutes, all of the newest one, and why there is none. */
function useMetrics() {
  const [state, set] = useState({ looks: [], found: null, problem: null });
  const asker = token.value;
  useEffect(() => {
    let isOver = false;
    let timer = 0;
    set({ looks: [], found: null, problem: null });
    const look = async () => {
      if (!document.hidden) {
        try {
          const found = samples(await read("/metrics"));
          const now = Date.now();
          if (!isOver) set((known) => ({ looks: [...known.looks.filter((each) => now - each.time < SPAN), lookOf(now, found)], found, problem: null }));
        } catch (problem) {
          // What was there stays to be read while the API is away.
          if (!isOver) set((known) => (problem.status ? { looks: [], found: null, problem } : { ...known, problem }));
        }
      }
      if (!isOver) timer = setTimeout(look, PAUSE);
    };
    look();
    return () => {
      isOver = true;
      clearTimeout(timer);
    };
  }, [asker]);
  return state;
}

/** What a counter grew by from a minute before each look to that look, as `of` makes a number of two looks; null at the beginning. */
function changes(looks, of) {
  return looks.map((each, index) => {
    const before = looks.find((other) => each.time - other.time <= RATE_OVER);
    // A counter that fell was begun anew: the API was started again, or another replica answered.
    return [each.time, before === looks[index] || each.finished < before.finished || each.requests < before.requests ? null : of(before, each)];
  });
}

const minutes = (before, now) => (now.time - before.time) / 60000;

function Trends({ looks }) {
  const plain = (key) => looks.map((each) => [each.time, each[key]]);
  // The width grows with what there is, so that the first minute is not a dot.
  const shared = { span: Math.max(RATE_OVER, looks.at(-1).time - looks[0].time) };
  return html`<div class="trends">
    <${Trend} ...${shared} label=${t("health.waiting")} points=${plain("queued")} />
    <${Trend} ...${shared} label=${t("health.running")} points=${plain("running")} />
    <${Trend} ...${shared} label=${t("health.models")} points=${plain("models")} />
    <${Trend} ...${shared} label=${t("health.throughput")} unit=${t("health.a.minute")} points=${changes(looks, (before, now) => (now.finished - before.finished) / minutes(before, now))} />
    <${Trend} ...${shared} label=${t("health.wait")} unit=${t("health.seconds")} points=${changes(looks, (before, now) => (now.began > before.began ? (now.waited - before.waited) / (now.began - before.began) : 0))} />
    <${Trend} ...${shared} label=${t("health.requests")} unit=${t("health.a.minute")} points=${changes(looks, (before, now) => (now.requests - before.requests) / minutes(before, now))} />
  </div>`;
}

/** How long each stage takes, and how the tasks ended, since the API's start. */
function Stages({ found }) {
  const all = (found.get("autoscorer_stage_seconds_count") || []).filter((each) => each.value > 0);
  const ended = found.get("autoscorer_tasks_finished_total") || [];
  if (!all.length && !ended.length) return html`<p class="muted">${t("health.none.ended")}</p>`;
  return html`${ended.length > 0 && html`<${Facts} of=${ended.map(({ labels, value }) => [`${word("action", labels.action)}, ${word("state", labels.state)}`, count(value)])} />`}
    ${all.length > 0 && html`<div class="scroll" tabindex="0" role="region" aria-label=${t("health.stages")}><table id="stages">
      <thead><tr><th scope="col">${t("list.action")}</th><th scope="col">${t("task.stage")}</th><th scope="col" class="num">${t("health.times")}</th><th scope="col" class="num">${t("health.mean")}</th></tr></thead>
      <tbody>${all.map(({ labels, value }) => html`<tr key=${labels.action + labels.stage}><th scope="row">${word("action", labels.action)}</th>
        <td>${labels.stage === "queue" ? t("health.stage.queue") : labels.stage === "total" ? t("health.stage.total") : word("stage", labels.stage)}</td><td class="num">${count(value)}</td>
        <td class="num">${seconds((total(found, "autoscorer_stage_seconds_sum", labels) ?? 0) / value)}</td></tr>`)}</tbody></table></div>`}`;
}

function Versions({ found }) {
  const [version, set] = useState("");
  useEffect(() => { read("/healthz").then((text) => set(JSON.parse(text).meta.version), () => {}); }, []);
  const started = found && total(found, "process_start_time_seconds");
  const memory = found && total(found, "process_resident_memory_bytes");
  const python = found?.get("python_info")?.[0]?.labels.version;
  return html`<section class="part" id="versions"><h2 id="versions-title">${t("health.versions")}</h2><${Facts} of=${[
    ["AutoScorer", version && html`<${Name} text=${version} />`],
    ["Python", python && html`<${Name} text=${python} />`],
    [t("health.since"), started && html`<${Time} text=${new Date(started * 1000).toISOString()} />`],
    [t("health.memory"), memory && bytes(memory)],
    [t("health.cpu"), found && seconds(total(found, "process_cpu_seconds_total"))],
  ]} /></section>`;
}

export function Course() {
  const { looks, found, problem } = useMetrics();
  return html`<section class="part" id="course"><h2 id="course-title">${t("health.course")}</h2>
      ${problem && (problem.status === 403 ? html`<p id="no-metrics" class="notice">${t("health.forbidden")}</p>` : html`<${Refusal} of=${problem} />`)}
      ${looks.length > 0 && html`<${Trends} looks=${looks} /><p class="muted">${t("health.replica")}</p>`}</section>
    ${found && html`<section class="part" id="since"><h2 id="since-title">${t("health.stages")}</h2><${Stages} found=${found} /></section>`}
    <${Versions} found=${found} />`;
}
