// One answer that was scored: what it came to, why, and what it was about.

import { html, useEffect, useRef, useState } from "/static/preact.js";
import { go, to } from "/static/core/address.js";
import { act } from "/static/core/api.js";
import { brief, count, moment, number, percent, t, word } from "/static/core/language.js";
import { once, useAsked } from "/static/core/live.js";
import { useTitle } from "/static/core/title.js";
import { Chip, Facts, Figure, Mono, Muted, Name, Part, Small, Table, Time, Value } from "/static/parts/basic.js";
import { IntervalBar } from "/static/parts/charts.js";
import { confirmed } from "/static/parts/dialog.js";
import { Failure, Refusal } from "/static/parts/failure.js";
import { Log } from "/static/parts/log.js";
import { Share, inOrder, saysOf } from "/static/parts/metrics.js";
import { NotesByPeople, Verdicts, useNotes } from "/static/parts/notes.js";
import { Passages } from "/static/parts/passages.js";
import { FlowRun } from "/static/parts/provenance.js";
import { Reasons, chosenClaim, judgedPassages, keyOf } from "/static/parts/reasons.js";

const LONGEST_HEADING = 160;
// Characters from which a text may scroll: then the keyboard has to reach it.
const SCROLLS = 400;

const isActive = (job) => ["queued", "running"].includes(job.status);

function Buttons({ job, onDone }) {
  const [problem, tell] = useState(null);
  const path = `/api/score/jobs/${encodeURIComponent(job.job_id)}`;
  const tried = async (work, after) => {
    tell(null);
    try {
      const found = await work();
      after?.(found);
    } catch (error) {
      tell(error);
    }
    onDone();
  };
  const cancel = async () => {
    if (await confirmed(t("job.cancel.text"), t("confirm.yes"), t("confirm.no"))) await tried(() => act(path, undefined, "DELETE"));
  };
  const forget = async () => {
    if (await confirmed(t("job.forget.text"), t("job.forget.yes"), t("job.forget.no"))) await tried(() => act(path, undefined, "DELETE"), () => go(to("jobs")));
  };
  const retry = () => tried(() => act(`${path}/retry`), (again) => go(to("job", again.job_id)));
  const hasFailed = Object.values(job.metrics).some((each) => each.status === "failed");
  return html`<p class="buttons">${isActive(job)
    ? html`<button type="button" id="cancel" onClick=${cancel}>${t("detail.cancel")}</button>`
    : html`<button type="button" id="retry" onClick=${retry}>${t(hasFailed ? "job.retry" : "job.again")}</button>
      <button type="button" id="forget" onClick=${forget}>${t("job.forget")}</button>`}</p>
    <${Refusal} of=${problem} />`;
}

function Headline({ job }) {
  const { weighted_score: score, coverage } = job;
  return html`<div class="hero">
    <p class="metric-name">${t("job.weighted")}</p>
    <p class="score">${typeof score === "number" ? html`<strong><${Figure} value=${score} /></strong>` : html`<${Muted}>${t("score.undefined")}</>`}
      ${job.status !== "completed" && html`<${Chip} state=${job.status} />`}</p>
    <${IntervalBar} value=${score} />
    ${typeof score === "number" && coverage < 1 && html`<p class="muted">${t("job.coverage", { share: percent(coverage) })}</p>`}
  </div>`;
}

/** What an error is where only its line is known: the code, and what it says. */
function errorOf(job, task) {
  if (task?.error) return task.error;
  const [, code, message] = /^([A-Z_]+): ([\s\S]*)$/.exec(job.error) || [null, "", job.error];
  return { code, message, stage: "", details: {} };
}

const took = (ms) => (ms >= 1 ? brief(ms / 1000) : "");

/** The question as a heading: one that is too long for it is told in full below. */
function headingOf(job, asked) {
  const { question } = job.request_summary;
  if (!asked || asked.question === question) return question || job.job_id;
  return asked.question.length <= LONGEST_HEADING ? asked.question : `${question}…`;
}

function cost(value) {
  return value === null ? "–" : value ? number(value) : "";
}

function Scores({ job }) {
  const names = inOrder([...job.request_summary.metrics, ...Object.keys(job.metrics), ...Object.keys(job.scores)]);
  if (!names.length) return null;
  const of = (name) => job.metrics[name] || { score: job.scores[name] ?? null, status: name in job.scores ? "ok" : "", claims: [] };
  const all = names.map((name) => [name, of(name)]);
  const has = (key) => all.some(([, each]) => each[key]);
  const [calls, tokens, price, spread] = [has("calls") || has("cached"), has("prompt_tokens") || has("completion_tokens"), has("cost"), has("spread")];
  const head = [t("metrics.name"), t("metrics.value"), ...(spread ? [t("job.spread")] : []), ...(calls ? [t("job.calls")] : []),
    ...(tokens ? [t("job.tokens")] : []), ...(price ? [t("job.cost")] : []), t("job.time")];
  const rows = all.map(([name, each]) => [
    html`<${Name} text=${name} />${saysOf(name) && html`<${Small}>${saysOf(name)}</>`}
      ${each.status && each.status !== "ok" && each.reason && html`<span class=${each.status === "failed" ? "small failed-reason" : "small muted"} dir="auto">${each.reason} ${each.error_code && html`<code>${each.error_code}</code>`}</span>`}`,
    html`<${Share} value=${each.score} status=${each.status === "ok" ? "undefined" : each.status} />`,
    ...(spread ? [typeof each.spread === "number" ? html`<${Figure} value=${each.spread} />` : ""] : []),
    ...(calls ? [each.cached ? t("job.cached", { n: each.calls + each.cached, cached: each.cached }) : each.calls ? count(each.calls) : ""] : []),
    ...(tokens ? [each.prompt_tokens || each.completion_tokens ? t("job.tokens.both", { prompt: each.prompt_tokens, completion: each.completion_tokens }) : ""] : []),
    ...(price ? [cost(each.cost)] : []),
    took(each.ms),
  ]);
  return html`<${Part} title=${t("metrics.title")} id="scores"><${Table} label=${t("metrics.title")} head=${head} rows=${rows} /></>`;
}

function Text({ title, text, none }) {
  return html`<h2>${title}</h2>${text ? html`<p class="sentence quoted" dir="auto" tabindex=${text.length > SCROLLS ? 0 : null}>${text}</p>` : html`<p class="muted">${none}</p>`}`;
}

/** The texts, and why they are judged as they are: beside each other where there is room. */
function Content({ job, asked, problem, tools }) {
  const summary = job.request_summary;
  const passages = asked?.contexts || [];
  return html`<div class="beside"><div class="part">
      <${Text} title=${t("job.question")} text=${asked?.question ?? summary.question} />
      <${Text} title=${t("job.answer")} text=${asked?.answer ?? summary.answer} none=${t("job.empty")} />
      ${asked?.ground_truth && html`<${Text} title=${t("job.truth")} text=${asked.ground_truth} />`}
      ${problem && html`<p id="short" class="muted">${t("job.short", { reason: problem.message })}</p>`}
      ${passages.length > 0 && html`<${Passages} of=${passages} judged=${judgedPassages(job.metrics, passages)} claim=${chosenClaim(job.metrics)} />`}
    </div><div id="reasons" class="part"><${Reasons} metrics=${job.metrics} passages=${passages} tools=${tools} /></div></div>`;
}

function Measured({ job, asked }) {
  const by = job.judged_by;
  const sum = (key) => Object.values(job.metrics).reduce((all, each) => all + (each[key] || 0), 0);
  const costs = Object.values(job.metrics).map((each) => each.cost);
  const known = costs.every((each) => each !== null);
  const calibrated = Object.entries(by?.calibrated || {});
  return html`<${Part} title=${t("job.measured")} id="measured"><${Facts} of=${[
    [t("job.judge"), (by?.models.judge || job.request_summary.judge_model) && html`<${Name} text=${by?.models.judge || job.request_summary.judge_model} />`],
    [t("job.embeddings"), (by?.models.embeddings || job.request_summary.embedding_model) && html`<${Name} text=${by?.models.embeddings || job.request_summary.embedding_model} />`],
    [t("job.tokens"), sum("prompt_tokens") + sum("completion_tokens") > 0 && t("job.tokens.both", { prompt: sum("prompt_tokens"), completion: sum("completion_tokens") })],
    [t("job.cost"), known ? sum("cost") > 0 && html`<${Figure} value=${sum("cost")} />` : html`<${Muted}>–</>`],
    [t("job.weights"), asked?.weights && html`<${Value} of=${asked.weights} />`],
    [t("job.calibrated"), calibrated.length > 0 && calibrated.map(([metric, at]) => t("job.calibrated.at", { metric, time: moment(at)?.[0] || at })).join(t("value.and"))],
    ...Object.entries(by?.prompts || {}).map(([name, digest]) => [t("job.prompt", { name }), html`<${Mono} text=${digest} />`]),
  ]} /></>`;
}

function About({ job, task }) {
  return html`<${Part} title=${t("job.about")} id="about"><${Facts} of=${[
    [t("task.state"), html`<${Chip} state=${job.status} />`],
    [t("job.who"), job.caller && html`<${Name} text=${job.caller} />`],
    [t("task.created"), html`<${Time} text=${job.created_at} />`],
    [t("job.took"), typeof job.latency_ms === "number" && took(job.latency_ms)],
    [t("task.repeats"), job.retry_of && html`<a href=${to("job", job.retry_of)}>${job.retry_of}</a>`],
    [t("task.reason"), task?.reason && html`<${Name} text=${task.reason} />`],
    [t("task.callback"), task?.callback && word("callback", task.callback.state)],
    [t("task.id"), html`<${Mono} text=${job.job_id} />`],
    [t("task.flow"), task?.flow_run_id && html`<${FlowRun} of=${task} />`],
  ]} /></>`;
}

export default function Job({ id }) {
  const path = `/api/score/jobs/${encodeURIComponent(id)}`;
  const { data: job, problem, again } = useAsked(path);
  const asked = useAsked(job ? `${path}/request` : null, { pause: once });
  const task = useAsked(job ? `/tasks/${encodeURIComponent(id)}` : null);
  const notes = useNotes(job ? id : null);
  const title = useRef(null);
  const before = useRef("");
  const [said, say] = useState("");
  const name = job ? headingOf(job, asked.data) : "";
  useTitle(name);
  useEffect(() => title.current?.focus(), [id]);
  const now = job ? job.status : "";
  useEffect(() => {
    if (before.current && before.current !== now) say(t("detail.said", { name, state: word("state", now) }));
    before.current = now;
  }, [now]);
  const tools = (metric, place) => html`<${Verdicts} notes=${notes} sample=${keyOf(metric, place)} metric=${metric} label=${t("note.about", { sample: keyOf(metric, place) })} />`;
  const done = job && Object.keys(job.scores).length + job.skipped_metrics.length;
  return html`<article id="job" class="card wide" aria-labelledby="title">
    <p class="crumb"><a href=${to("jobs")}>${t("nav.jobs")}</a></p>
    <h1 id="title" ref=${title} tabindex="-1">${name || problem ? html`<${Name} text=${name || id} />` : "…"}</h1>
    <p id="said" class="unseen" role="status">${said}</p>
    <${Refusal} of=${problem} />
    ${job && html`<div id="detail">
      ${job.error && html`<${Failure} error=${errorOf(job, task.data)} />`}
      <${Headline} job=${job} />
      ${isActive(job) && job.request_summary.metrics.length > 0 && html`<progress value=${done} max=${job.request_summary.metrics.length} aria-label=${t("job.done", { done, total: job.request_summary.metrics.length })} />
        <p class="muted">${t("job.done", { done, total: job.request_summary.metrics.length })}</p>`}
      <${Buttons} job=${job} onDone=${again} />
      <${Scores} job=${job} />
      <${Content} job=${job} asked=${asked.data} problem=${asked.problem} tools=${tools} />
      <${NotesByPeople} notes=${notes} />
      <${Measured} job=${job} asked=${asked.data} />
      <${About} job=${job} task=${task.data} />
      <${Log} task=${id} goesOn=${isActive(job)} />
    </div>`}
  </article>`;
}
