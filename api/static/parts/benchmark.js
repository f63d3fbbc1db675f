// What is said of a benchmark wherever it is shown: whether it takes submissions, until when, and what a team has left.

import { html } from "/static/preact.js";
import { encoded } from "/static/core/address.js";
import { meaning, number, t } from "/static/core/language.js";
import { Name, Small, Time } from "/static/parts/basic.js";

/** Where the API tells of a benchmark, whose name may be a path. */
export const addressOf = (name, rest = "", base = "/benchmarks") => `${base}/${encoded(name)}${rest}`;

export const titleOf = (benchmark) => benchmark.title || benchmark.name;

/** The phase that a submission of this moment is of, as the service tells it, or the one that opens next. */
export function phaseOf({ phases, is_open: isOpen }, now = Date.now()) {
  const opens = (phase) => (phase.open ? Date.parse(phase.open) : -Infinity);
  const closes = (phase) => (phase.close ? Date.parse(phase.close) : Infinity);
  const begun = phases.filter((phase) => opens(phase) <= now);
  const running = begun.find((phase) => now < closes(phase));
  if (running) return { phase: running, deadline: running.close };
  if (isOpen && begun.length) return { phase: begun.filter((phase) => phase.late === "accept").at(-1), isLate: true };
  const coming = phases.filter((phase) => opens(phase) > now).sort((a, b) => opens(a) - opens(b))[0];
  return coming ? { phase: coming, next: coming.open } : { phase: null };
}

/** Whether submissions are taken now. */
export function OpenChip({ of: benchmark }) {
  if (benchmark.error) return html`<span class="state failed">${meaning(benchmark.error)?.title || html`<${Name} text=${benchmark.error} />`}</span>`;
  return html`<span class=${benchmark.is_open ? "state completed" : "state"}>${t(benchmark.is_open ? "bench.open" : "bench.closed")}</span>`;
}

/** The name of the phase that counts now. */
export function PhaseName({ of: benchmark }) {
  const { phase, isLate, next } = phaseOf(benchmark);
  if (!phase) return html`<span class="muted">${t(benchmark.phases.length ? "bench.over" : "bench.always")}</span>`;
  return html`<${Name} text=${phase.name} />${isLate && html`<${Small}>${t("bench.late")}</>`}${next && html`<${Small}>${t("bench.coming")}</>`}`;
}

/** Until when submissions are taken, or from when on. */
export function Deadline({ of: benchmark }) {
  const { deadline, next } = phaseOf(benchmark);
  if (next) return html`<${Small}>${t("bench.opens")}</><${Time} text=${next} />`;
  return deadline ? html`<${Time} text=${deadline} />` : html`<span class="muted">–</span>`;
}

/** What a team has left of its quota, in words; nothing where there is no limit. */
export function quotaLeft(left) {
  if (!left) return "";
  return [
    typeof left.left_today === "number" && t("quota.today", { n: left.left_today }),
    typeof left.left === "number" && t("quota.total", { n: left.left }),
    typeof left.at_once_left === "number" && t("quota.once", { n: left.at_once_left }),
  ].filter(Boolean).join(t("value.and")) || t("quota.none");
}

/** A quota as it was set. */
export function quotaOf(quota) {
  return ["per_day", "total", "at_once"].filter((key) => typeof quota[key] === "number")
    .map((key) => t(`quotas.${key.replace("_", ".")}`, { n: number(quota[key]) })).join(t("value.and")) || t("quota.none");
}
