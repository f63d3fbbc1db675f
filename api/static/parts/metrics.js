// The metrics of answers: their names, what they say, and one of them as a cell.

import { html } from "/static/preact.js";
import { number, t, word } from "/static/core/language.js";
import { Figure } from "/static/parts/basic.js";

/** In the order of the catalogue: scorers/rag/catalogue.py. */
export const METRICS = [
  "faithfulness", "answer_relevancy", "context_precision", "context_utilization", "context_recall", "answer_correctness",
  "semantic_similarity", "exact_match", "token_f1", "rouge_l", "chrf", "string_presence", "grounded_token_ratio",
  "nonllm_context_precision", "nonllm_context_recall",
];

/** What a metric says, in a sentence; empty for one that is not known here. */
export const saysOf = (metric) => {
  const said = metric.replaceAll("_", ".").replace(/\d/g, "");
  const found = METRICS.includes(metric) ? word("says", said) : "";
  return found === said ? "" : found;
};

/** Those of some metrics that the catalogue has come in its order, then the others as they stand. */
export function inOrder(names) {
  const there = [...new Set(names)];
  return [...METRICS.filter((name) => there.includes(name)), ...there.filter((name) => !METRICS.includes(name))];
}

// What a verdict of each metric is called: where it is good, and where it is not.
const VERDICTS = {
  faithfulness: ["supported", "unsupported"],
  context_recall: ["supported", "unsupported"],
  context_precision: ["helps", "helpless"],
  context_utilization: ["helps", "helpless"],
  answer_correctness: ["stated", "unstated"],
};

/** A verdict in the words of its metric, and in its colour. */
export function Verdict({ metric, of: verdict }) {
  if (typeof verdict !== "boolean") return html`<span class="state">${t("verdict.open")}</span>`;
  const [good, bad] = VERDICTS[metric] || ["holds", "wrong"];
  return html`<span class="state ${verdict ? "passed" : "unpassed"}">${word("verdict", verdict ? good : bad)}</span>`;
}

/** A score from 0 to 1 as a number, over a bar of that length; or why there is none. */
export function Share({ value, status }) {
  if (typeof value !== "number") return html`<span class="muted">${status ? word("metric", status) : "–"}</span>`;
  const long = Math.max(0, Math.min(1, value)) * 100;
  return html`<${Figure} value=${value} /><svg class="share" viewBox="0 0 100 4" preserveAspectRatio="none" aria-hidden="true" data-share=${number(value)}>
    <rect class="bar-all" width="100" height="4" rx="2" /><rect class="bar-value" width=${long} height="4" rx="2" /></svg>`;
}
