// How long each stage took, one after the other, and what the model used.

import { html } from "/static/preact.js";
import { brief, bytes, number, t, word } from "/static/core/language.js";
import { Facts, Part } from "/static/parts/basic.js";

// In the order in which they come.
const STAGES = ["validate", "queue", "pull", "run", "load", "compute", "save"];

/** Seconds of each stage, of a Result or of a run's report. */
function timesOf(result) {
  const { queue_seconds: queue, pull_seconds: pull, run_seconds: run } = result;
  return Object.entries({ queue, pull, run, ...result.timing }).filter(([, value]) => typeof value === "number");
}

/** The stages below each other, each where it began. */
function Course({ stages }) {
  const whole = stages.reduce((sum, [, value]) => sum + value, 0) || 1;
  let before = 0;
  return html`<table id="stage-times"><thead><tr><th scope="col">${t("failure.stage")}</th><th scope="col" class="num">${t("stages.took")}</th>
      <th scope="col"><span class="unseen">${t("stages.course")}</span></th></tr></thead>
    <tbody>${stages.map(([name, value]) => {
      const from = (before / whole) * 100;
      before += value;
      return html`<tr key=${name}><th scope="row">${word("stage", name)}</th><td class="num"><data value=${value} title=${String(value)}>${brief(value)}</data></td>
        <td class="course"><svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">
          <rect class="bar-all" x="0" y="4" width="100" height="2" rx="1" />
          <rect class="bar-value" x=${Math.min(from, 99)} y="2" width=${Math.max(1, (value / whole) * 100)} height="6" rx="1" /></svg></td></tr>`;
    })}</tbody></table>`;
}

export function Stages({ task }) {
  const result = task.result || {};
  const times = new Map(timesOf(result));
  const stages = [
    ...(typeof task.queue_seconds === "number" ? [["waited", task.queue_seconds]] : []),
    ...STAGES.filter((name) => times.has(name)).map((name) => [name, times.get(name)]),
  ];
  if (!times.size) return null;
  const used = result.resources || {};
  const files = typeof used.output_files === "number" && `${t("stages.files", { n: used.output_files })}, ${bytes(used.output_bytes)}`;
  return html`<${Part} title=${t("stages.title")} id="course"><${Course} stages=${stages} />
    <${Facts} of=${[
      [t("stages.total"), times.has("total") && brief(times.get("total"))],
      [t("stages.memory"), bytes(used.peak_memory_bytes)],
      [t("stages.cpu"), typeof used.cpu_seconds === "number" && brief(used.cpu_seconds)],
      [t("stages.gpu.memory"), bytes(used.gpu_memory_bytes)],
      [t("stages.gpu"), typeof used.gpu_seconds === "number" && brief(used.gpu_seconds)],
      [t("stages.left"), files],
      [t("stages.exit"), typeof used.exit_code === "number" && number(used.exit_code)],
      [t("stages.backend"), used.backend],
    ]} /></>`;
}
