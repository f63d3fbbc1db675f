// A task in the list, and what both the list and the detail say of it.

import { el, figure, name } from "./dom.js";
import { meaning, moment, number, seconds, t, word } from "./language.js";

export const isActive = (task) => ["queued", "running", "cancelling"].includes(task.state);

/** What a task works on, in words. */
export function nameOf(task) {
  if (task.workspace) return task.workspace;
  if (task.question) return task.question;
  const all = task.workspaces || [];
  return all.length > 2 ? t("list.more", { first: all[0], n: all.length - 1 }) : all.join(", ") || t("list.batch");
}

/** How it ended: a Result below its threshold is completed, and no success. */
export function ended(task) {
  if (task.state !== "completed") return task.state;
  const passed = task.outcome?.pass ?? task.result?.summary?.pass;
  return passed === true ? "passed" : passed === false ? "unpassed" : "completed";
}

export const chip = (state) => el("span", { class: `state ${state}` }, word("state", state));

export function time(text, short = false) {
  const said = moment(text, short);
  return said ? el("time", { datetime: text, title: said[1] }, said[0]) : text || "–";
}

/** The ends of an interval. */
export const span = (interval) => (interval ? el("span", { title: `${interval.low} – ${interval.high}` }, `${number(interval.low)} – ${number(interval.high)}`) : "");

const small = (content) => (content ? el("span", { class: "small muted" }, content) : null);

/** The cells of a task's row, as [key, [contents], attributes]. */
export function cells(task) {
  const progress = task.progress ? `${number(task.progress.done)}/${number(task.progress.total)}` : "";
  const attempt = task.attempts > 1 ? t("list.attempt", { n: task.attempts }) : "";
  const error = task.error ? el("span", { title: task.error.code }, meaning(task.error.code)?.title || name(task.error.code)) : null;
  const stage = [isActive(task) ? word("stage", task.stage) : "", progress, attempt].filter(Boolean).join(t("value.and"));
  const { score, interval, metric } = task.outcome || {};
  return [
    ["name", [el("a", { href: `#${encodeURIComponent(task.id)}` }, name(nameOf(task)))], {}],
    ["state", [chip(ended(task))], {}],
    ["score", task.outcome ? [el("strong", {}, figure(score)), small(span(interval))] : [], { class: "num" }],
    ["metric", [metric && name(metric), small(task.scorer && name(task.scorer))], {}],
    ["action", [word("action", task.action)], {}],
    ["stage", [error, error && stage ? t("value.and") + stage : stage], {}],
    ["created", [time(task.created_at, true)], {}],
    ["duration", [seconds(task.run_seconds)], { class: "num", "data-label": t("list.ran.short") }],
  ];
}
