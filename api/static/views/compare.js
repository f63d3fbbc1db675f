// Two records side by side: whether they compare, what they came to, and in what they differ.

import { html, useEffect, useRef } from "/static/preact.js";
import { change, chosen, go, route, to } from "/static/core/address.js";
import { number, percent, t, word } from "/static/core/language.js";
import { once, useAsked } from "/static/core/live.js";
import { useTitle } from "/static/core/title.js";
import { Chip, Direction, Facts, Figure, Fold, Mono, Muted, Name, Part, Span, Table, Time, Value } from "/static/parts/basic.js";
import { IntervalBar } from "/static/parts/charts.js";
import { Refusal } from "/static/parts/failure.js";
import { Pages } from "/static/parts/pages.js";
import { Right, Said } from "/static/parts/samples.js";

const PAGE = 50;
const MOST_METRICS = 1000;
const CHANGES = ["", "lost", "gained", "other"];
// Of notes, those that say that the scores do not compare; the others are to be known.
const HARD = ["no_score", "other_metric", "other_direction", "other_ground_truth", "other_part"];
const OF_SAMPLES = ["samples_hidden", "samples_not_kept", "samples_partly"];
const DIGEST = /^[0-9a-f:]{32,}$|^sha256:/;

const nameOf = (side) => [side.team, side.workspace || side.task_id].filter(Boolean).join(" · ");

/** What a note says, in the reader's words; as the API says it where there are none. */
function saidOf(note) {
  const key = note.code.replaceAll("_", ".");
  const said = word("differs", key);
  return said === key ? note.text : said;
}

/** From the lowest to the highest of some numbers, with room on both sides. */
function scaleOf(values) {
  const there = values.filter((value) => typeof value === "number" && Number.isFinite(value));
  if (!there.length) return null;
  const [low, high] = [Math.min(...there), Math.max(...there)];
  const pad = (high - low || Math.abs(high) || 1) * 0.12;
  return [low - pad, high + pad];
}

const signed = (value) => (value > 0 ? `+${number(value)}` : number(value));

/** A value that was asked for, or a digest, as text that is read. */
function Given({ of: value }) {
  if (value === null || value === undefined) return html`<${Muted}>${t("compare.absent")}</>`;
  if (typeof value === "string" && DIGEST.test(value)) return html`<${Mono} text=${value} />`;
  return html`<${Value} of=${value} />`;
}

// --- the headlines ---------------------------------------------------------------------------------------------------

function Side({ side, letter }) {
  return html`<section class="side" aria-labelledby=${`side-${letter}`}>
    <h2 id=${`side-${letter}`}><span class="letter">${letter}</span> <a href=${to("record", side.task_id)}><${Name} text=${nameOf(side)} /></a></h2>
    <p class="metric-name">${side.metric && html`<${Name} text=${side.metric} /> <${Direction} isHigher=${side.higher_is_better} />`}</p>
    <p class="score">${typeof side.score === "number" ? html`<strong><${Figure} value=${side.score} /></strong>` : html`<${Muted}>${t("score.undefined")}</>`}
      ${typeof side.pass === "boolean" && html`<${Chip} state=${side.pass ? "passed" : "unpassed"} />`}
      ${side.rank && html`<span class="state">${t("score.rank", { rank: side.rank })}</span>`}</p>
    ${side.interval && html`<p>${t("score.interval", { level: percent(side.interval.level ?? 0.95), low: number(side.interval.low), high: number(side.interval.high) })}</p>`}
    <${Facts} of=${[
      [t("task.scorer"), side.scorer && html`<${Name} text=${side.scorer} />`],
      [t("list.benchmark"), side.benchmark && html`<a href=${to("benchmark", side.benchmark)}><${Name} text=${side.benchmark} /></a>`],
      [t("failure.title"), side.error && html`<code><${Name} text=${side.error} /></code>`],
      [t("compare.ended"), html`<${Time} text=${side.ended_at} />`],
    ]} /></section>`;
}

/** Scores and intervals of both, under each other on one scale. */
function Scale({ a, b }) {
  const rows = [["A", a], ["B", b]].filter(([, side]) => typeof side.score === "number");
  if (rows.length < 2) return null;
  const scale = scaleOf(rows.flatMap(([, { score, interval }]) => [score, interval?.low, interval?.high]));
  return html`<figure class="scale"><figcaption>${t("compare.scale")}</figcaption>
    ${rows.map(([letter, side]) => html`<div><span class="letter">${letter}</span>
      <${IntervalBar} value=${side.score} low=${side.interval?.low} high=${side.interval?.high} scale=${scale} /></div>`)}
    <p class="ends muted" aria-hidden="true"><span>${number(scale[0])}</span><span>${number(scale[1])}</span></p></figure>`;
}

function Warnings({ data }) {
  const notes = data.notes.filter((note) => !OF_SAMPLES.includes(note.code));
  const hard = notes.filter((note) => HARD.includes(note.code));
  const soft = notes.filter((note) => !HARD.includes(note.code));
  const list = (some) => html`<ul>${some.map((note) => html`<li key=${note.code} data-code=${note.code}>${saidOf(note)}</li>`)}</ul>`;
  const title = t(data.comparable === null ? "compare.uncertain" : "compare.mind");
  return html`${data.comparable === false && html`<div id="incomparable" class="problem" role="alert"><strong>${t("compare.incomparable")}</strong>${list(hard)}</div>`}
    ${soft.length > 0 && html`<div id="mind" class="notice"><strong>${title}</strong>${list(soft)}</div>`}`;
}

function Better({ data: { a, b, better } }) {
  if (!better) return null;
  if (better === "equal") return html`<p id="better">${t("compare.equal")}</p>`;
  return html`<p id="better">${t("compare.better", { side: better.toUpperCase(), difference: number(Math.abs(b.score - a.score)) })}</p>`;
}

// --- what differs ----------------------------------------------------------------------------------------------------

function Both({ pair }) {
  const scale = scaleOf([pair.a, pair.b, pair.interval_a?.low, pair.interval_a?.high, pair.interval_b?.low, pair.interval_b?.high]);
  if (typeof pair.a !== "number" || typeof pair.b !== "number") return null;
  return html`<span class="both"><${IntervalBar} value=${pair.a} low=${pair.interval_a?.low} high=${pair.interval_a?.high} scale=${scale} />
    <${IntervalBar} value=${pair.b} low=${pair.interval_b?.low} high=${pair.interval_b?.high} scale=${scale} /></span>`;
}

const cellOf = (value, interval) => html`<${Figure} value=${value} />${interval && html`<span class="small muted"><${Span} of=${interval} /></span>`}`;

function Metrics({ pairs, onlyDifferent }) {
  const shown = onlyDifferent ? pairs.filter((pair) => pair.a !== pair.b) : pairs;
  const head = [t("metrics.name"), "A", "B", t("compare.difference"), t("compare.scale")];
  const rows = (some) => some.map((pair) => [
    html`<${Name} text=${pair.name} />`, cellOf(pair.a, pair.interval_a), cellOf(pair.b, pair.interval_b),
    typeof pair.difference === "number" ? html`<data value=${pair.difference} title=${String(pair.difference)}>${signed(pair.difference)}</data>` : html`<${Muted}>–</>`,
    html`<${Both} pair=${pair} />`]);
  // By class, as f1/cat: there may be thousands.
  const isOfClass = ({ name }) => name.indexOf("/") > 0;
  const [whole, classes] = [shown.filter((pair) => !isOfClass(pair)), shown.filter(isOfClass)];
  const table = (some, label) => html`<${Table} label=${label} head=${head} rows=${rows(some.slice(0, MOST_METRICS))} />
    ${some.length > MOST_METRICS && html`<p class="muted">${t("compare.metrics.left", { n: some.length - MOST_METRICS })}</p>`}`;
  return html`<${Part} title=${t("metrics.title")} id="metrics">
    <label class="check"><input type="checkbox" id="only" checked=${onlyDifferent} onChange=${(event) => change({ only: event.target.checked ? "different" : "" })} /> ${t("compare.only")}</label>
    ${!shown.length && html`<p class="muted">${t("compare.metrics.same")}</p>`}
    ${whole.length > 0 && table(whole, t("metrics.title"))}
    ${classes.length > 0 && html`<${Fold} key=${onlyDifferent} summary=${t("compare.classes", { n: classes.length })}>${() => table(classes, t("metrics.classes"))}</>`}</>`;
}

function Differences({ title, id, of: differences, list }) {
  const head = [t("compare.what"), "A", "B"];
  return html`<${Part} title=${title} id=${id}>
    ${differences.length ? html`<${Table} label=${title} head=${head} words=${3} rows=${differences.map((each) => [
      list ? word(list, PROVENANCE[each.name]) || html`<${Name} text=${each.name} />` : html`<${Name} text=${each.name} />`,
      html`<${Given} of=${each.a} />`, html`<${Given} of=${each.b} />`])} />` : html`<p class="muted">${t("compare.same")}</p>`}</>`;
}

// What the record's own part of this calls them.
const PROVENANCE = {
  autoscorer: "autoscorer", scorer: "scorer", scorer_sha256: "code", image: "image", image_digest: "digest",
  ground_truth_sha256: "truth", predictions_sha256: "predictions", input_sha256: "input",
};

// --- samples ---------------------------------------------------------------------------------------------------------

function SampleRows({ samples, measure }) {
  const head = (said, look) => html`<th scope="col" class=${look}>${said}</th>`;
  const look = (value) => (typeof value === "number" ? "num" : "text");
  const side = (sample) => html`<td class=${look(sample.predicted)}><${Said} of=${sample.predicted} /> <${Right} of=${sample.verdict} />
    ${measure && typeof sample.value === "number" && html`<span class="small muted"><${Name} text=${measure.name} /> <${Figure} value=${sample.value} /></span>`}</td>`;
  const isSame = (pair) => pair.a.expected === pair.b.expected;
  return html`<div class="scroll" tabindex="0" role="region" aria-label=${t("compare.samples")}><table id="sample-rows">
    <thead><tr>${head(t("sample.id"))}${head(t("sample.change"))}${head("A")}${head("B")}${head(t("sample.expected"))}</tr></thead>
    <tbody>${samples.map((pair) => html`<tr key=${pair.id} data-id=${pair.id} data-change=${pair.change}><th scope="row"><${Name} text=${pair.id} />
        ${pair.a.question && html`<span class="small muted"><${Name} text=${pair.a.question} /></span>`}</th>
      <td><span class="state ${pair.change === "gained" ? "passed" : pair.change === "lost" ? "unpassed" : ""}">${t(`change.${pair.change}`)}</span></td>
      ${side(pair.a)}${side(pair.b)}
      <td class=${look(pair.a.expected)}>${isSame(pair) ? html`<${Said} of=${pair.a.expected} />`
        : html`<span class="letter">A</span><${Said} of=${pair.a.expected} /> <span class="letter">B</span><${Said} of=${pair.b.expected} />`}</td></tr>`)}</tbody>
  </table></div>`;
}

function Samples({ data }) {
  const { query } = route.value;
  const title = useRef(null);
  const { samples } = data;
  const why = data.notes.filter((note) => OF_SAMPLES.includes(note.code));
  const wanted = chosen(query, "change", CHANGES);
  return html`<section class="part" id="samples"><h2 ref=${title} tabindex="-1">${t("compare.samples")}</h2>
    ${why.map((note) => html`<p class="muted" data-code=${note.code}>${saidOf(note)}${note.code === "samples_not_kept" && html` <span dir="auto">${note.text}</span>`}</p>`)}
    ${samples && html`<p>${t("compare.counted", { n: samples.compared, gained: number(samples.gained), lost: number(samples.lost), other: number(samples.other) })}</p>
      ${(samples.kept_a < samples.total_a || samples.kept_b < samples.total_b) && html`<p class="muted">${t("compare.partly", {
        keptA: samples.kept_a, totalA: samples.total_a, keptB: samples.kept_b, totalB: samples.total_b })}</p>`}
      <label class="field"><span>${t("compare.change")}</span><select id="change" value=${wanted} onChange=${(event) => change({ change: event.target.value, cursor: "" })}>
        ${CHANGES.map((each) => html`<option value=${each}>${each ? t(`changed.${each}`) : t("filter.all")}</option>`)}</select></label>
      ${samples.samples.length ? html`<${SampleRows} samples=${samples.samples} measure=${samples.measure} />`
        : html`<p class="muted">${t(wanted ? "compare.samples.filtered" : "compare.samples.none")}</p>`}
      <${Pages} next=${samples.next_cursor} cursor=${query.get("cursor") || ""} onTurn=${() => title.current.focus()} />`}</section>`;
}

// --- choosing --------------------------------------------------------------------------------------------------------

function Choose({ a, b }) {
  const submit = (event) => {
    event.preventDefault();
    const form = new FormData(event.target);
    go(to("compare", "", { a: form.get("a").trim(), b: form.get("b").trim() }));
  };
  const field = (name, value) => html`<label class="field grow"><span>${t(name === "a" ? "compare.first" : "compare.second")}</span>
    <input id=${name} name=${name} defaultValue=${value} required maxlength="64" autocomplete="off" spellcheck=${false} /></label>`;
  return html`<p>${t("compare.how")} <a href=${to("records")}>${t("nav.records")}</a></p>
    <form id="choose" onSubmit=${submit}><div class="choices">${field("a", a)}${field("b", b)}<button type="submit">${t("compare.do")}</button></div></form>`;
}

export default function Compare() {
  const { query } = route.value;
  const title = useRef(null);
  const [a, b] = [query.get("a") || "", query.get("b") || ""];
  const asked = new URLSearchParams({ a, b, limit: String(PAGE) });
  const wanted = chosen(query, "change", CHANGES);
  if (wanted) asked.set("change", wanted);
  if (query.get("cursor")) asked.set("cursor", query.get("cursor"));
  const { data: now, problem } = useAsked(a && b ? `/compare?${asked}` : null, { pause: once });
  // Another page of samples: what is there stays until it has come.
  const last = useRef({});
  if (now) last.current = { of: `${a} ${b}`, data: now };
  const data = now || (!problem && last.current.of === `${a} ${b}` ? last.current.data : null);
  useTitle(data ? t("compare.titled", { a: nameOf(data.a), b: nameOf(data.b) }) : t("compare.title"));
  useEffect(() => title.current.focus(), [a, b]);
  return html`<article id="compared" class="card wide" aria-labelledby="title">
    <p class="crumb"><a href=${to("records")}>${t("nav.records")}</a></p>
    <div class="title-line"><h1 id="title" ref=${title} tabindex="-1">${t("compare.title")}</h1>
      ${data && html`<div class="tools"><button type="button" id="swap" onClick=${() => change({ a: b, b: a, cursor: "" })}>${t("compare.swap")}</button></div>`}</div>
    <${Refusal} of=${problem} />
    ${(!a || !b || problem) && html`<${Choose} key=${`${a} ${b}`} a=${a} b=${b} />`}
    ${data && html`<${Warnings} data=${data} />
      <div class="sides"><${Side} side=${data.a} letter="A" /><${Side} side=${data.b} letter="B" /></div>
      ${data.comparable !== false && html`<${Scale} a=${data.a} b=${data.b} /><${Better} data=${data} />`}
      <${Metrics} pairs=${data.metrics} onlyDifferent=${query.get("only") === "different"} />
      <${Differences} id="params" title=${t("compare.params")} of=${data.params} />
      <${Differences} id="provenance" title=${t("compare.provenance")} of=${data.provenance} list="provenance" />
      <${Samples} data=${data} />`}
  </article>`;
}
