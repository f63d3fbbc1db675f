// The samples of a record: what was predicted, what was expected, and whether that was right. What is looked for is in the address.

import { html, useRef } from "/static/preact.js";
import { change, chosen, route } from "/static/core/address.js";
import { t, word } from "/static/core/language.js";
import { once, useAsked, useLast } from "/static/core/live.js";
import { useTyped } from "/static/core/typing.js";
import { Figure, Fold, Name, Part, Small } from "/static/parts/basic.js";
import { Refusal } from "/static/parts/failure.js";
import { Share, inOrder } from "/static/parts/metrics.js";
import { Verdicts } from "/static/parts/notes.js";
import { Pages } from "/static/parts/pages.js";

const PAGE = 20;
const VERDICTS = ["", "wrong", "right"];

/** Whether a sample was right, in its colour; nothing where there is no right and wrong. */
export function Right({ of: verdict }) {
  return verdict && html`<span class="state ${verdict === "right" ? "passed" : "unpassed"}">${word("sample", verdict)}</span>`;
}

/** What was predicted or expected: a number, a label, or an answer, of which the beginning is shown. */
export function Said({ of: value }) {
  if (typeof value === "number") return html`<${Figure} value=${value} />`;
  return value !== null && value !== undefined && html`<span class="said" dir="auto" title=${value.length > 200 ? value : null}>${value}</span>`;
}

function Row({ sample, hasVerdicts, measure, hasMetrics, notes }) {
  const names = inOrder(Object.keys(sample.metrics || {}));
  return html`<tr data-id=${sample.id}>
    <th scope="row"><${Name} text=${sample.id} />${sample.question && html`<${Small}><${Name} text=${sample.question} /></>`}</th>
    ${hasVerdicts && html`<td><${Right} of=${sample.verdict} /></td>`}
    <td class=${typeof sample.predicted === "number" ? "num" : "text"}><${Said} of=${sample.predicted} /></td>
    <td class=${typeof sample.expected === "number" ? "num" : "text"}><${Said} of=${sample.expected} /></td>
    ${measure && html`<td class="num">${hasMetrics ? html`<${Share} value=${sample.value} />` : html`<${Figure} value=${sample.value} />`}</td>`}
    ${hasMetrics && html`<td class="text">${names.length > 0 && html`<${Fold} summary=${t("sample.metrics", { n: names.length })}>${() => html`<ul class="plain">${names.map((name) => html`<li>
      <${Name} text=${name} /> <${Figure} value=${sample.metrics[name]} /> <${Verdicts} notes=${notes} sample=${sample.id} metric=${name} label=${`${sample.id} ${name}`} /></li>`)}</ul>`}</>`}</td>`}
    ${notes?.isThere && html`<td>${!hasMetrics && html`<${Verdicts} notes=${notes} sample=${sample.id} />`}
      <button type="button" class="quiet" aria-label=${t("note.write", { sample: sample.id })} title=${t("note.write", { sample: sample.id })} onClick=${() => change({ note: sample.id }, { replace: true })}>✎</button></td>`}
  </tr>`;
}

function Rows({ page, notes }) {
  const hasVerdicts = page.samples.some((sample) => sample.verdict);
  const hasMetrics = page.samples.some((sample) => sample.metrics);
  const isNumber = page.samples.every((sample) => typeof sample.predicted === "number");
  const head = (said, look) => html`<th scope="col" class=${look}>${said}</th>`;
  return html`<div class="scroll" tabindex="0" role="region" aria-label=${t("samples.title")}><table id="sample-rows">
    <thead><tr>${head(t("sample.id"))}${hasVerdicts && head(t("sample.verdict"))}${head(t(hasMetrics ? "sample.answer" : "sample.predicted"), isNumber ? "num" : null)}
      ${head(t("sample.expected"), isNumber ? "num" : null)}${page.measure && head(html`<${Name} text=${page.measure.name} />`, "num")}
      ${hasMetrics && head(t("metrics.title"))}${notes?.isThere && head(t("sample.notes"))}</tr></thead>
    <tbody>${page.samples.map((sample) => html`<${Row} key=${sample.id} sample=${sample} hasVerdicts=${hasVerdicts} measure=${page.measure} hasMetrics=${hasMetrics} notes=${notes} />`)}</tbody>
  </table></div>`;
}

function Filters({ hasVerdicts, onFocus }) {
  const { query } = route.value;
  const [typed] = useTyped((value) => change({ find: value.trim(), cursor: "" }, { replace: true }));
  return html`<div class="choices" role="search" aria-label=${t("samples.find")}>
    <label class="field grow"><span>${t("samples.find")}</span>
      <input id="sample-find" type="search" ref=${onFocus} defaultValue=${query.get("find") || ""} autocomplete="off" spellcheck=${false} maxlength="200" placeholder=${t("samples.find.hint")} onInput=${(event) => typed(event.target.value)} /></label>
    ${hasVerdicts && html`<label class="field"><span>${t("samples.verdict")}</span>
      <select id="sample-verdict" value=${chosen(query, "verdict", VERDICTS)} onChange=${(event) => change({ verdict: event.target.value, cursor: "" })}>
        ${VERDICTS.map((each) => html`<option value=${each}>${each ? word("sample", each) : t("filter.all")}</option>`)}</select></label>`}
  </div>`;
}

/** The samples of a scored task, as far as they are kept and may be seen. */
export function Samples({ task, notes }) {
  const { query } = route.value;
  const [verdict, find, cursor] = [chosen(query, "verdict", VERDICTS), query.get("find") || "", query.get("cursor") || ""];
  const asked = new URLSearchParams({ limit: String(PAGE) });
  for (const [key, value] of [["verdict", verdict], ["q", find], ["cursor", cursor]]) if (value) asked.set(key, value);
  const { data, problem } = useAsked(`/tasks/${encodeURIComponent(task.id)}/samples?${asked}`, { pause: once });
  const field = useRef(null);
  // Another filter: what is there stays until the answer has come.
  const page = useLast(data, problem);
  if (problem && [403, 404].includes(problem.status)) {
    return html`<${Part} title=${t("samples.title")} id="samples"><p class="muted">${t(problem.status === 403 ? "samples.hidden" : "samples.none", { reason: problem.message })}</p></>`;
  }
  if (!page && !problem) return null;
  return html`<${Part} title=${t("samples.title")} id="samples">
    <${Refusal} of=${problem} />
    ${page && html`<p>${t("samples.total", { n: page.total })}${" "}${page.counts && t("samples.counted", page.counts)}</p>
      ${page.kept < page.total && html`<p id="samples-partly" class="muted">${t("samples.partly", { kept: page.kept, total: page.total })}</p>`}
      <${Filters} hasVerdicts=${page.counts !== null} onFocus=${field} />
      <p class="muted" role="status">${verdict || find ? t("samples.found", { n: page.found }) : ""}</p>
      ${page.samples.length ? html`<${Rows} page=${page} notes=${notes} />` : html`<p class="empty">${t("samples.empty")}</p>`}
      <${Pages} next=${page.next_cursor} cursor=${cursor} onTurn=${() => field.current?.focus()} />`}</>`;
}
