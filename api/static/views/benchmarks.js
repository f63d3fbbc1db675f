// The benchmarks that the token may know of: until when each takes submissions, what is left, and who is first.

import { html } from "/static/preact.js";
import { to } from "/static/core/address.js";
import { t } from "/static/core/language.js";
import { useAsked } from "/static/core/live.js";
import { useTitle } from "/static/core/title.js";
import { Direction, Figure, Name, Small, Span } from "/static/parts/basic.js";
import { Deadline, OpenChip, PhaseName, addressOf, quotaLeft, titleOf } from "/static/parts/benchmark.js";
import { Refusal } from "/static/parts/failure.js";

// Milliseconds: a benchmark's folder and the scores of all its submissions are read for each.
const PAUSE = 30000;
const slowly = { pause: () => PAUSE };

function Best({ row }) {
  return html`<strong><${Figure} value=${row.score} /></strong> <${Direction} isHigher=${row.higher_is_better} /><${Small}><${Span} of=${row} /></>`;
}

function Row({ of: benchmark, isTeam }) {
  const { data: board, problem } = useAsked(benchmark.error ? null : addressOf(benchmark.name, "/leaderboard"), slowly);
  const best = board?.rows.find((row) => row.place === 1);
  const own = board?.team ? board.rows.find((row) => row.team === board.team) : null;
  const isNamed = benchmark.title && benchmark.title !== benchmark.name;
  return html`<tr role="row" data-name=${benchmark.name}>
    <td role="cell" data-key="name"><a href=${to("benchmark", benchmark.name)}><${Name} text=${titleOf(benchmark)} /></a>${isNamed && html`<${Small}><${Name} text=${benchmark.name} /></>`}</td>
    <td role="cell" data-key="open"><${OpenChip} of=${benchmark} /></td>
    <td role="cell" data-key="phase" data-label=${t("bench.phase")}>${!benchmark.error && html`<${PhaseName} of=${benchmark} />`}</td>
    <td role="cell" data-key="deadline" data-label=${t("bench.deadline")}>${!benchmark.error && html`<${Deadline} of=${benchmark} />`}</td>
    <td role="cell" data-key="best" class="num" data-label=${t("bench.best")}>${problem ? html`<span class="muted" title=${problem.message}>–</span>` : best && html`<${Best} row=${best} />`}</td>
    ${isTeam && html`<td role="cell" data-key="own" class="num" data-label=${t("bench.own")}>${own && html`<strong><${Figure} value=${own.score} /></strong>
        ${own.place !== null && html`<${Small}>${t("bench.place", { n: own.place })}</>`}`}</td>
      <td role="cell" data-key="left" data-label=${t("bench.left")}>${quotaLeft(benchmark.left)}</td>`}
  </tr>`;
}

const HEAD = ["bench.name", "bench.state", "bench.phase", "bench.deadline", "bench.best"];
// To a token of a team.
const OF_A_TEAM = ["bench.own", "bench.left"];
const NUMBERS = ["bench.best", "bench.own"];

export default function Benchmarks() {
  const { data, problem } = useAsked("/benchmarks", slowly);
  useTitle(t("nav.benchmarks"));
  const all = data?.benchmarks || [];
  const isTeam = all.some((each) => each.left);
  return html`<section class="card">
    <div class="title-line"><h1 id="title" tabindex="-1">${t("nav.benchmarks")}</h1>
      <p id="count" class="muted" role="status">${data && t("bench.count", { n: all.length })}</p></div>
    <${Refusal} of=${problem} />
    ${all.length > 0 && html`<div class="scroll" tabindex="0" role="region" aria-labelledby="title"><table role="table" class="records">
      <thead role="rowgroup"><tr role="row">${[...HEAD, ...(isTeam ? OF_A_TEAM : [])].map((key) => html`
        <th role="columnheader" scope="col" class=${NUMBERS.includes(key) ? "num" : null}>${t(key)}</th>`)}</tr></thead>
      <tbody role="rowgroup" id="rows">${all.map((each) => html`<${Row} key=${each.name} of=${each} isTeam=${isTeam} />`)}</tbody></table></div>`}
    ${data && !all.length && html`<p class="empty" id="empty">${t("bench.none")}</p>`}
  </section>`;
}
