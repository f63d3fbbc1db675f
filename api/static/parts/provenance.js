// How a record came about: what was asked for, when, by what, of which bytes.

import { html } from "/static/preact.js";
import { to } from "/static/core/address.js";
import { count, seconds, t, word } from "/static/core/language.js";
import { Chip, Facts, Mono, Name, Part, Time, Value } from "/static/parts/basic.js";
import { isActive } from "/static/parts/task.js";

function Callback({ of: callback }) {
  const said = t("callback.attempts", { state: word("callback", callback.state), n: callback.attempts });
  return html`<span>${said}${callback.last_error && html`: <${Name} text=${callback.last_error} />`}</span>`;
}

/** The flow run, and where its page in Prefect is known a link to that. */
export function FlowRun({ of: task }) {
  const id = html`<${Mono} text=${task.flow_run_id} />`;
  return task.flow_run_url ? html`<a id="flow-run" href=${task.flow_run_url} rel="noreferrer">${id}</a>` : id;
}

/** The params that it was scored with. */
export function Params({ task }) {
  const pairs = Object.entries(task.result?.versioning?.params || task.params || {});
  return pairs.length > 0 && html`<${Part} title=${t("params.title")}><${Facts} of=${pairs.map(([key, value]) => [
    html`<${Name} text=${key} />`, html`<${Value} of=${value} />`])} /></>`;
}

/** The task itself. */
export function About({ task }) {
  return html`<${Part} title=${t("task.title")}><${Facts} of=${[
    [t("task.state"), html`<${Chip} state=${task.state} />`],
    [t("task.action"), word("action", task.action)],
    [t("task.stage"), isActive(task) && word("stage", task.stage)],
    [t("list.workspace"), task.workspace && html`<a href=${to("workspace", task.workspace)}><${Name} text=${task.workspace} /></a>`],
    [t("list.benchmark"), task.benchmark && html`<a href=${to("benchmark", task.benchmark)}><${Name} text=${task.benchmark} /></a>`],
    [t("list.team"), task.team && html`<${Name} text=${task.team} />`],
    [t("task.scorer"), task.scorer && html`<${Name} text=${task.scorer} />`],
    [t("task.priority"), task.priority !== "normal" && word("priority", task.priority)],
    [t("task.created"), html`<${Time} text=${task.created_at} />`],
    [t("task.waited"), seconds(task.queue_seconds)],
    [t("task.ran"), seconds(task.run_seconds)],
    [t("task.attempts"), task.attempts > 1 && count(task.attempts)],
    [t("task.repeats"), task.retry_of && html`<a href=${to("record", task.retry_of)}>${task.retry_of}</a>`],
    [t("task.parent"), task.parent && html`<a href=${to("record", task.parent)}>${task.parent}</a>`],
    [t("task.reason"), task.reason && html`<${Name} text=${task.reason} />`],
    [t("task.callback"), task.callback && html`<${Callback} of=${task.callback} />`],
    [t("task.id"), html`<${Mono} text=${task.id} />`],
    [t("task.flow"), task.flow_run_id && html`<${FlowRun} of=${task} />`],
  ]} /></>`;
}

/** What exactly was scored by what. */
export function Provenance({ task }) {
  const ids = task.result?.versioning;
  if (!ids) return null;
  const mono = (text) => text && html`<${Mono} text=${text} />`;
  return html`<${Part} title=${t("provenance.title")}><${Facts} of=${[
    [t("provenance.autoscorer"), ids.autoscorer],
    [t("provenance.scorer"), [ids.scorer, ids.scorer_version].filter(Boolean).join(" ")],
    [t("provenance.time"), ids.timestamp && html`<${Time} text=${ids.timestamp} />`],
    [t("provenance.host"), ids.hostname && html`<${Name} text=${ids.hostname} />`],
    [t("provenance.image"), mono(ids.image)],
    [t("provenance.digest"), mono(ids.image_digest)],
    [t("provenance.code"), mono(ids.scorer_sha256)],
    [t("provenance.truth"), mono(ids.ground_truth_sha256)],
    [t("provenance.predictions"), mono(ids.predictions_sha256)],
    [t("provenance.input"), mono(ids.input_sha256)],
  ]} /></>`;
}
