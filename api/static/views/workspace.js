// A workspace: what its last Result says, and how its score went over time.

import { html, useEffect, useRef, useState } from "/static/preact.js";
import { go, route, to } from "/static/core/address.js";
import { act } from "/static/core/api.js";
import { moment, t, word } from "/static/core/language.js";
import { once, useAsked } from "/static/core/live.js";
import { useTitle } from "/static/core/title.js";
import { Facts, Fold, Name, Small, Time } from "/static/parts/basic.js";
import { confirmed } from "/static/parts/dialog.js";
import { Failure, Refusal } from "/static/parts/failure.js";
import { Course } from "/static/parts/history.js";
import { Pages } from "/static/parts/pages.js";
import { Headline, Metrics, Notes } from "/static/parts/result.js";
import { Score, Verdict, addressOf, submissionOf } from "/static/parts/workspace.js";

const PAGE = 200;
// Milliseconds: each look reads the Results of all that are shown.
const PAUSE = 15000;

const changesOf = (each) => each.changed.map((part) => word("changed", part)).join(t("value.and"));

function Crumb({ name }) {
  const of = submissionOf(name);
  return html`<p class="crumb">${of
    ? html`<a href=${to("benchmark", of.benchmark, { team: of.team })}><${Name} text=${of.benchmark} /> · <${Name} text=${of.team} /></a>`
    : html`<a href=${to("workspaces")}>${t("nav.workspaces")}</a>`}</p>`;
}

function Buttons({ name }) {
  const [problem, tell] = useState(null);
  const remove = async () => {
    if (!await confirmed(t("space.delete.question", { name }), t("space.delete.yes"), t("space.delete.no"))) return;
    tell(null);
    try {
      await act(addressOf(name), undefined, "DELETE");
      go(to("workspaces"));
    } catch (error) {
      tell(error);
    }
  };
  return html`<p class="buttons">
      ${!submissionOf(name) && html`<a class="button" id="submit" href=${to("submit", "", { workspace: name })}>${t("space.submit")}</a>`}
      <a class="button second" href=${to("records", "", { q: name })}>${t("nav.records")}</a>
      <button type="button" id="delete" onClick=${remove}>${t("space.delete")}</button></p>
    <${Refusal} of=${problem} />`;
}

/** One Result of the history, whole. */
function Shown({ name, item }) {
  const { data: result, problem } = useAsked(addressOf(name, `/history/${encodeURIComponent(item.id)}`), { pause: once });
  return html`<section class="part" id="result">
    <h2 id="result-title">${item.stands ? t("space.last") : html`${t("space.past")} <${Time} text=${item.time} />`}</h2>
    ${!item.stands && html`<p><a href=${to("workspace", name)}>${t("space.last.link")}</a></p>`}
    <${Refusal} of=${problem} />
    ${result?.error && html`<${Failure} error=${result.error} />`}
    ${result && !result.error && html`<${Headline} result=${result} /><${Fold} summary=${t("metrics.title")} open=${!item.stands}><${Metrics} result=${result} /></><${Notes} result=${result} />`}
  </section>`;
}

function Row({ name, of: each, isShown }) {
  const place = each.task_id ? to("record", each.task_id) : to("workspace", name, { result: each.id });
  return html`<tr role="row" class=${isShown ? "own" : null} data-id=${each.id}>
    <td role="cell" data-key="name"><a href=${place}><${Time} text=${each.time || each.id} /></a>${each.stands && html`<${Small}>${t("space.stands")}</>`}</td>
    <td role="cell" data-key="verdict"><${Verdict} of=${each} /></td>
    <td role="cell" data-key="score" class="num"><${Score} of=${each} /></td>
    <td role="cell" data-key="metric">${each.metric && html`<${Name} text=${each.metric} />`}</td>
    <td role="cell" data-key="scorer">${each.scorer && html`<${Name} text=${each.scorer} />`}</td>
    <td role="cell" data-key="changed" data-label=${t("space.changed")}>${each.changed.length > 0 && html`<span class="state queued">${changesOf(each)}</span>`}</td>
    <td role="cell" data-key="result"><a href=${to("workspace", name, { result: each.id })}>${t("space.result")}</a></td>
  </tr>`;
}

const HEAD = ["space.scored", "list.state", "list.score", "list.metric", "list.scorer", "space.changed", ""];

/** The scores of the metric that was scored last, the oldest first: others are on another scale. */
function courseOf(results) {
  const metric = results.find((each) => each.metric)?.metric;
  return [...results].reverse().filter((each) => each.metric === metric || each.metric === null).map((each) => ({
    value: each.score, low: each.low, high: each.high, mark: changesOf(each),
    label: moment(each.time)?.[0] || each.id, short: moment(each.time, true)?.[0] || "",
  }));
}

function Past({ name, page, shown, onTurn, cursor }) {
  const all = page.results;
  const line = all.find((each) => typeof each.pass_threshold === "number")?.pass_threshold;
  const metric = all.find((each) => each.metric)?.metric || t("list.score");
  return html`<section class="part" id="history">
    <div class="title-line"><h2 id="history-title">${t("space.history")}</h2><p class="muted" role="status">${t("space.results", { n: page.total })}</p></div>
    ${!all.length && html`<p class="empty" id="empty">${t("space.history.none")}</p>`}
    <${Course} points=${courseOf(all)} line=${line} label=${metric} marked=${t("course.changed")} />
    ${all.length > 0 && html`<div class="scroll" tabindex="0" role="region" aria-labelledby="history-title"><table role="table" class="records">
      <thead role="rowgroup"><tr role="row">${HEAD.map((key) => html`<th role="columnheader" scope="col" class=${key === "list.score" ? "num" : null}>${key && t(key)}</th>`)}</tr></thead>
      <tbody role="rowgroup" id="rows">${all.map((each) => html`<${Row} key=${each.id} name=${name} of=${each} isShown=${shown?.id === each.id} />`)}</tbody></table></div>`}
    <${Pages} next=${page.next_cursor} cursor=${cursor} onTurn=${onTurn} />
  </section>`;
}

export default function Workspace({ id }) {
  const { query } = route.value;
  const title = useRef(null);
  const cursor = query.get("cursor") || "";
  const slowly = { pause: () => PAUSE };
  const space = useAsked(addressOf(id), slowly);
  const params = new URLSearchParams({ limit: String(PAGE), ...(cursor && { cursor }) });
  const history = useAsked(addressOf(id, `/history?${params}`), slowly);
  useTitle(id);
  const wanted = query.get("result");
  useEffect(() => title.current?.focus(), [id, wanted]);
  const results = history.data?.results || [];
  const shown = wanted ? results.find((each) => each.id === wanted) || { id: wanted, time: null, stands: false } : results.find((each) => each.stands);
  const of = space.data;
  return html`<article class="card wide" aria-labelledby="title">
    <${Crumb} name=${id} />
    <h1 id="title" ref=${title} tabindex="-1"><${Name} text=${id} /></h1>
    <${Refusal} of=${space.problem || history.problem} />
    ${of && html`<${Facts} of=${[
      [t("list.scorer"), of.scorer && html`<${Name} text=${of.scorer} />`],
      [t("bench.type"), of.task_type && html`<${Name} text=${of.task_type} />`],
      [t("space.job"), of.job_id && of.job_id !== id && html`<${Name} text=${of.job_id} />`],
      [t("space.truth"), t(of.has_ground_truth ? "value.yes" : "value.no")],
      [t("space.predictions"), t(of.has_predictions ? "value.yes" : "value.no")],
    ]} /><${Buttons} name=${of.name} />`}
    ${of && history.data && shown && html`<${Shown} key=${shown.id} name=${of.name} item=${shown} />`}
    ${of && history.data && html`<${Past} name=${of.name} page=${history.data} shown=${shown} cursor=${cursor} onTurn=${() => title.current.focus()} />`}
  </article>`;
}
