// A Result: the score as a sentence, then every number.

import { html } from "/static/preact.js";
import { number, percent, t } from "/static/core/language.js";
import { Chip, Figure, Fold, Muted, Name, Part, Span, Table } from "/static/parts/basic.js";
import { IntervalBar } from "/static/parts/charts.js";

const FIRST_CLASSES = 12;
const MOST_CLASSES = 1000;
const OF_A_SUMMARY = ["score", "pass", "rank", "higher_is_better"];

export const isResult = (task) => "higher_is_better" in (task.result?.summary || {});

/** The main metric's name: the one that the summary repeats under its own name. */
export function mainMetric(result) {
  const extra = Object.keys(result.summary).filter((key) => !OF_A_SUMMARY.includes(key));
  const metrics = result.metrics || {};
  return extra.find((key) => key in metrics)
    || Object.keys(metrics).find((key) => metrics[key] === result.summary.score && metrics[key] !== null) || extra[0] || "score";
}

function Threshold({ result }) {
  const needed = result.versioning?.params?.pass_threshold;
  // Of a trial the verdict may be there without what it was held against.
  if (typeof needed !== "number") return typeof result.summary.pass === "boolean" ? null : html`${t("score.nothreshold")} · `;
  return html`${t(result.summary.higher_is_better === false ? "score.most" : "score.least", { threshold: String(needed) })} · `;
}

/** Metric, value, verdict, interval, threshold and direction. */
export function Headline({ result }) {
  const main = mainMetric(result);
  const interval = result.intervals?.[main];
  const { score, rank, pass, higher_is_better: higher } = result.summary;
  return html`<div class="hero">
    <p class="metric-name"><${Name} text=${main} /></p>
    <p class="score">
      ${typeof score === "number" ? html`<strong><${Figure} value=${score} /></strong>` : html`<${Muted}>${t("score.undefined")}</>`}
      ${typeof pass === "boolean" && html`<${Chip} state=${pass ? "passed" : "unpassed"} />`}
      ${rank && html`<span class="state">${t("score.rank", { rank })}</span>`}</p>
    <${IntervalBar} value=${score} low=${interval?.low} high=${interval?.high} threshold=${result.versioning?.params?.pass_threshold} />
    ${interval && html`<p title=${`${interval.low} – ${interval.high}`}>
      ${t("score.interval", { level: percent(interval.level ?? 0.95), low: number(interval.low), high: number(interval.high) })}
      ${interval.method && html`<${Muted}> (<${Name} text=${interval.method} />)</>`}</p>`}
    <p><${Threshold} result=${result} /><${Muted}>${t(higher === false ? "score.lower" : "score.higher")}</></p>
  </div>`;
}

/** Plain metrics, and those by class (f1/cat) as [prefixes, classes, [class → value]]. */
export function split(metrics, main) {
  const plain = [];
  const families = new Map();
  for (const [key, value] of Object.entries(metrics)) {
    const slash = key.indexOf("/");
    if (slash < 1 || key === main) {
      plain.push(key);
      continue;
    }
    const [prefix, rest] = [key.slice(0, slash), key.slice(slash + 1)];
    if (!families.has(prefix)) families.set(prefix, new Map());
    families.get(prefix).set(rest, value);
  }
  const groups = new Map();
  for (const [prefix, values] of families) {
    const signature = JSON.stringify([...values.keys()].sort());
    if (!groups.has(signature)) groups.set(signature, [[], [...values.keys()], []]);
    const [prefixes, , columns] = groups.get(signature);
    prefixes.push(prefix);
    columns.push(values);
  }
  plain.sort((a, b) => (b === main) - (a === main));
  return [plain, [...groups.values()]];
}

function Classes({ of: [prefixes, classes, columns] }) {
  const head = [t("metrics.class"), ...prefixes.map((each) => html`<${Name} text=${each} />`)];
  const rows = (some) => some.map((each) => [html`<${Name} text=${each} />`, ...columns.map((column) => html`<${Figure} value=${column.get(each)} />`)]);
  const rest = classes.slice(FIRST_CLASSES);
  return html`<h3>${t("metrics.classes")}</h3>
    <${Table} label=${t("metrics.classes")} head=${head} rows=${rows(classes.slice(0, FIRST_CLASSES))} />
    ${rest.length > 0 && html`<${Fold} summary=${t("metrics.others", { n: rest.length })}>${() => html`
      <${Table} label=${t("metrics.classes")} head=${head} rows=${rows(rest.slice(0, MOST_CLASSES))} />
      ${rest.length > MOST_CLASSES && html`<p class="muted">${t("metrics.left", { n: rest.length - MOST_CLASSES })}</p>`}`}</>`}`;
}

/** Every metric with its interval, and the classes in a table of their own. */
export function Metrics({ result }) {
  const metrics = result.metrics || {};
  const intervals = result.intervals || {};
  if (!Object.keys(metrics).length) return null;
  const [plain, groups] = split(metrics, mainMetric(result));
  const withSpans = Object.keys(intervals).length > 0;
  const head = [t("metrics.name"), t("metrics.value"), ...(withSpans ? [t("metrics.interval")] : [])];
  const rows = plain.map((key) => [html`<${Name} text=${key} />`, html`<${Figure} value=${metrics[key]} />`,
    ...(withSpans ? [html`<${Span} of=${intervals[key]} />`] : [])]);
  return html`<${Part} title=${t("metrics.title")}>
    ${rows.length > 0 && html`<${Table} label=${t("metrics.title")} head=${head} rows=${rows} />`}
    ${groups.map((group) => html`<${Classes} of=${group} />`)}</>`;
}

/** What the scorer and the scoring step say beside the numbers. */
export function Notes({ result }) {
  const all = Array.isArray(result.notes) ? result.notes : [];
  return all.length > 0 && html`<${Part} title=${t("notes.title")}><ul>${all.map((note) => html`<li dir="auto">${String(note)}</li>`)}</ul></>`;
}
