// A benchmark: what it asks for, who is best at it, and what was handed in.

import { html, useEffect, useRef } from "/static/preact.js";
import { chosen, route, to } from "/static/core/address.js";
import { bytes, meaning, number, seconds, t, word } from "/static/core/language.js";
import { useAsked } from "/static/core/live.js";
import { useTitle } from "/static/core/title.js";
import { Facts, Fold, Name, Small, Time, Value } from "/static/parts/basic.js";
import { Deadline, OpenChip, PhaseName, addressOf, quotaLeft, quotaOf, titleOf } from "/static/parts/benchmark.js";
import { Board } from "/static/parts/board.js";
import { Refusal } from "/static/parts/failure.js";
import { Submissions } from "/static/parts/submissions.js";

const PAUSE = 15000;
const slowly = { pause: () => PAUSE };
const PARTS = ["public", "private"];
// As the API's own CSV of a benchmark has them.
const KEYS = ["place", "team", "score", "low", "high", "metric", "number", "label", "submissions", "submitted_at", "version"];

function About({ of: benchmark }) {
  const left = quotaLeft(benchmark.left);
  return html`<${Facts} of=${[
    [t("bench.phase"), html`<${PhaseName} of=${benchmark} />`],
    [t("bench.deadline"), html`<${Deadline} of=${benchmark} />`],
    [t("bench.left"), left],
    [t("bench.next"), benchmark.left?.next_at && html`<${Time} text=${benchmark.left.next_at} />`],
  ]} />`;
}

function resources(of) {
  return Object.entries(of).map(([key, value]) => [html`<code><${Name} text=${key} /></code>`,
    ["memory", "disk", "gpu_memory"].includes(key) && typeof value === "number" ? bytes(value) : html`<${Value} of=${value} />`]);
}

function Phase({ of: { name, open, close, late } }) {
  const moment = (text, never) => (text ? html`<${Time} text=${text} />` : t(never));
  return html`<li><${Name} text=${name} />: ${moment(open, "bench.fromever")} – ${moment(close, "bench.forever")}
    ${late === "accept" && t("value.and") + t("bench.late")}</li>`;
}

function Rules({ of: benchmark }) {
  const rules = benchmark.leaderboard || {};
  const { withheld } = benchmark;
  return html`<${Facts} of=${[
    [t("list.scorer"), benchmark.scorer && html`<a href=${to("scorers", "", { q: benchmark.scorer })}><${Name} text=${benchmark.scorer} /></a>`],
    [t("params.title"), benchmark.params && html`<${Value} of=${benchmark.params} />`],
    [t("bench.type"), benchmark.task_type && html`<${Name} text=${benchmark.task_type} />`],
    [t("bench.phases"), benchmark.phases.length > 0 && html`<ul class="plain">${benchmark.phases.map((each) => html`<${Phase} of=${each} />`)}</ul>`],
    [t("bench.quota"), quotaOf(benchmark.quota)],
    [t("bench.timeout"), seconds(benchmark.timeout)],
    [t("bench.resources"), Object.keys(benchmark.resources).length > 0 && html`<${Facts} of=${resources(benchmark.resources)} />`],
    [t("bench.backends"), benchmark.backends.join(t("value.and"))],
    [t("bench.counts"), word("choose", rules.choose)],
    [t("bench.visibility"), word("visibility", benchmark.visibility)],
    [t("bench.margin"), typeof rules.margin === "number" && t("bench.margin.text", { margin: number(rules.margin) })],
    [t("bench.decimals"), typeof rules.decimals === "number" && number(rules.decimals)],
    [t("bench.freeze"), rules.freeze && html`<${Time} text=${rules.freeze} />`],
    [t("bench.withheld"), withheld && (withheld.released ? t("bench.released") : withheld.release
      ? html`${t("bench.releases")} <${Time} text=${withheld.release} />` : t("bench.unreleased"))],
  ]} />`;
}

function columnsOf(rows) {
  const left = [
    ...(rows.some((row) => row.submitted_at) ? [] : ["board.submitted"]),
    ...(rows.some((row) => row.number !== null) ? [] : ["board.counts"]),
    ...(rows.some((row) => row.outdated) ? [] : ["board.version"]),
  ];
  return [
    { word: "board.counts", cell: (row) => row.number !== null && html`#${row.number}${row.label && html`<${Small}><${Name} text=${row.label} /></>`}` },
    { word: "board.submissions", isNumber: true, cell: (row) => number(row.submissions) },
    { word: "board.submitted", cell: (row) => row.submitted_at && html`<${Time} text=${row.submitted_at} short />` },
    { word: "board.version", isNumber: true, cell: (row) => html`${row.version}${row.outdated && html`<${Small}>${t("board.outdated")}</>`}` },
  ].filter(({ word: key }) => !left.includes(key));
}

/** `isPublic` says that whoever looks may have no token, and so sees nothing else of a team. */
function Standing({ of: benchmark, board, part, isPublic }) {
  const { data, problem } = board;
  const { query } = route.value;
  const frozen = benchmark.leaderboard?.freeze && Date.parse(benchmark.leaderboard.freeze) <= Date.now();
  const link = (values) => to("benchmark", benchmark.name, { view: isPublic && "public", ...values });
  const whoOf = (row) => html`${row.team === null ? html`<span class="muted">${t("board.hidden")}</span>` : isPublic ? html`<${Name} text=${row.team} />`
    : html`<a href=${link({ part: query.get("part"), team: row.team })}><${Name} text=${row.team} /></a>`}
    ${row.team !== null && row.team === data.team && html` <span class="state running">${t("board.you")}</span>`}`;
  const metric = data?.rows[0]?.metric;
  const isHigher = data?.rows[0]?.higher_is_better;
  return html`<section class="part" id="board">
    <h2 id="board-title">${t("batch.board")}</h2>
    ${metric && html`<p class="muted"><${Name} text=${metric} /> · ${t(isHigher === false ? "score.lower" : "score.higher")}${frozen && ` · ${t("board.frozen")}`}</p>`}
    ${benchmark.withheld && html`<p class="tabs" role="group" aria-label=${t("board.parts")}>${PARTS.map((each) => html`
      <a href=${link({ team: query.get("team"), part: each === PARTS[0] ? "" : each })} aria-current=${each === part ? "true" : null}>${t(`parts.${each}`)}</a>`)}</p>`}
    <${Refusal} of=${problem} />
    ${data && !data.rows.length && html`<p class="empty" id="empty">${t("board.none")}</p>`}
    ${data && data.rows.length > 0 && html`<${Board} rows=${data.rows} label=${t("batch.board")} find=${t("board.find")} nobody=${(name) => t("board.nobody", { name })}
      name=${(row) => row.team ?? ""} whoWord=${t("list.team")} who=${whoOf} columns=${columnsOf(data.rows)}
      file=${`${benchmark.name.replaceAll("/", "-")}-leaderboard.csv`} keys=${KEYS} isOwn=${(row) => data.team !== null && row.team === data.team} />`}
  </section>`;
}

function Unusable({ code }) {
  const known = meaning(code);
  return html`<div class="problem" role="alert"><strong>${known?.title || code}</strong>${known && html`<br />${known.advice}`}</div>`;
}

/** What the organiser shows to anybody: it is asked for without a token as well. */
function Public({ id }) {
  const title = useRef(null);
  const part = chosen(route.value.query, "part", PARTS);
  const { data: benchmark, problem } = useAsked(addressOf(id, `?part=${part}`, "/public/benchmarks"), slowly);
  const name = benchmark ? titleOf(benchmark) : id;
  useTitle(name);
  useEffect(() => title.current?.focus(), [id]);
  return html`<article class="card wide" aria-labelledby="title">
    <div class="title-line"><h1 id="title" ref=${title} tabindex="-1"><${Name} text=${name} /></h1>${benchmark && html`<${OpenChip} of=${benchmark} />`}</div>
    <${Refusal} of=${problem} />
    ${benchmark && html`
      ${benchmark.description && html`<p class="sentence lead" dir="auto">${benchmark.description}</p>`}
      <${About} of=${benchmark} />
      <${Standing} of=${benchmark} board=${{ data: benchmark.board }} part=${part} isPublic />`}
    <p><a href=${to("benchmark", id)}>${t("bench.all")}</a></p>
  </article>`;
}

export default function Benchmark({ id }) {
  return html`<${route.value.query.get("view") === "public" ? Public : Whole} id=${id} />`;
}

function Whole({ id }) {
  const { query } = route.value;
  const title = useRef(null);
  const part = chosen(query, "part", PARTS);
  const asked = useAsked(addressOf(id), slowly);
  const benchmark = asked.data;
  const usable = benchmark && !benchmark.error;
  const board = useAsked(usable ? addressOf(id, `/leaderboard?part=${part}`) : null, slowly);
  const name = benchmark ? titleOf(benchmark) : id;
  useTitle(name);
  useEffect(() => title.current?.focus(), [id]);
  return html`<article class="card wide" aria-labelledby="title">
    <p class="crumb"><a href=${to("benchmarks")}>${t("nav.benchmarks")}</a></p>
    <div class="title-line"><h1 id="title" ref=${title} tabindex="-1"><${Name} text=${name} /></h1>${benchmark && html`<${OpenChip} of=${benchmark} />`}</div>
    <${Refusal} of=${asked.problem} />
    ${benchmark?.error && html`<${Unusable} code=${benchmark.error} />`}
    ${usable && html`
      ${benchmark.description && html`<p class="sentence lead" dir="auto">${benchmark.description}</p>`}
      <${About} of=${benchmark} />
      <p class="buttons">${benchmark.is_open && html`<a class="button" id="submit" href=${to("submit", "", { benchmark: benchmark.name })}>${t("nav.submit")}</a>`}
        <a class="button second" href=${to("records", "", { benchmark: benchmark.name })}>${t("nav.records")}</a>
        ${benchmark.leaderboard?.public && html`<a class="button second" id="public" href=${to("benchmark", benchmark.name, { view: "public" })}>${t("bench.public")}</a>`}</p>
      <${Fold} summary=${t("bench.rules")}><${Rules} of=${benchmark} /></>
      <${Standing} of=${benchmark} board=${board} part=${part} />
      <${Submissions} of=${benchmark} board=${board.data} onChosen=${board.again} />`}
  </article>`;
}
