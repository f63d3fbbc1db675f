// A job that scores one answer: the question, its scores, and why they are what they are.

import { el, facts, figure, fold, name, table } from "./dom.js";
import { percent, t, word } from "./language.js";
import { chip } from "./views.js";

const verdict = (value) => (value === null || value === undefined ? "–" : t(value ? "value.yes" : "value.no"));

function score(job) {
  return el("div", { class: "hero" },
    el("h3", { class: "first" }, t("job.weighted")),
    el("p", { class: "score" },
      typeof job.weighted_score === "number" ? el("strong", {}, figure(job.weighted_score)) : el("span", { class: "muted" }, t("score.undefined")),
      job.status === "completed" ? null : chip(job.status)),
    job.coverage && job.coverage < 1 ? el("p", { class: "muted" }, t("job.coverage", { share: percent(job.coverage) })) : null);
}

function scores(job) {
  const rows = Object.entries(job.metrics).map(([metric, each]) => [
    name(metric), typeof each.score === "number" ? figure(each.score) : el("span", { class: "muted" }, word("metric", each.status)),
  ]);
  return rows.length ? [el("h3", {}, t("metrics.title")), table(t("metrics.title"), [t("metrics.name"), t("metrics.value")], rows)] : [];
}

function reasons([metric, each]) {
  const claims = each.claims.map((claim) => [name(claim.text), verdict(claim.verdict), name(claim.reason || "")]);
  if (!claims.length && !each.reason) return null;
  return fold(`reasons ${metric}`, t("job.why", { metric }), () => [
    each.reason ? el("p", { dir: "auto" }, each.reason) : null,
    claims.length ? table(t("job.why", { metric }), [t("job.judged"), t("job.verdict"), t("job.reason")], claims, 3) : null,
  ].filter(Boolean));
}

/** The score of one answer, what was asked and answered, and the reasons of each metric. */
export function answerScores(job) {
  const asked = job.request_summary;
  return [
    score(job),
    facts([[t("job.question"), name(asked.question)], [t("job.answer"), name(asked.answer)], [t("job.judge"), asked.judge_model && name(asked.judge_model)]]),
    ...scores(job),
    ...Object.entries(job.metrics).map(reasons),
  ];
}
