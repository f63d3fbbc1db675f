// The columns of the list of records: what each one shows, how it is sorted, what it is in a CSV.

import { html } from "/static/preact.js";
import { to } from "/static/core/address.js";
import { meaning, number, seconds, t, word } from "/static/core/language.js";
import { Chip, Direction, Figure, Name, Small, Span, Time } from "/static/parts/basic.js";
import { IntervalBar } from "/static/parts/charts.js";
import { ended, isActive, nameOf } from "/static/parts/task.js";

/** Where a task is looked at. */
export const placeOf = (task) => (task.action === "rag-score" ? to("job", task.id) : to("record", task.id));

function Score({ task: { outcome } }) {
  if (!outcome) return null;
  const { score, interval } = outcome;
  return html`<strong><${Figure} value=${score} /></strong>${interval && html`<${Small}><${Span} of=${interval} /></>`}
    <${IntervalBar} value=${score} low=${interval?.low} high=${interval?.high} />`;
}

function Stage({ task }) {
  const progress = task.progress ? `${number(task.progress.done)}/${number(task.progress.total)}` : "";
  const attempt = task.attempts > 1 ? t("list.attempt", { n: task.attempts }) : "";
  const stage = [isActive(task) ? word("stage", task.stage) : "", progress, attempt].filter(Boolean).join(t("value.and"));
  if (!task.error) return html`${stage}`;
  return html`<span title=${task.error.code}>${meaning(task.error.code)?.title || html`<${Name} text=${task.error.code} />`}</span>${stage && t("value.and") + stage}`;
}

function Called({ task }) {
  return html`<a href=${placeOf(task)}><${Name} text=${nameOf(task)} /></a>${task.parent && html`<${Small}><a href=${to("record", task.parent)}>${t("list.member")}</a></>`}`;
}

/** Key, word of the head, key to sort by, whether it holds numbers, cell, and what stands in a CSV. */
export const COLUMNS = [
  { key: "name", word: "list.workspace", sort: "name", cell: (task) => html`<${Called} task=${task} />`, csv: nameOf },
  { key: "state", word: "list.state", sort: "state", cell: (task) => html`<${Chip} state=${ended(task)} />`, csv: ended },
  { key: "score", word: "list.score", sort: "score", isNumber: true, cell: (task) => html`<${Score} task=${task} />`, csv: (task) => task.outcome?.score },
  { key: "metric", word: "list.metric", cell: (task) => task.outcome?.metric && html`<${Name} text=${task.outcome.metric} /> <${Direction} isHigher=${task.outcome.higher_is_better !== false} />`, csv: (task) => task.outcome?.metric },
  { key: "scorer", word: "list.scorer", sort: "scorer", cell: (task) => task.scorer && html`<${Name} text=${task.scorer} />`, csv: (task) => task.scorer },
  { key: "team", word: "list.team", isExtra: true, cell: (task) => task.team && html`<${Name} text=${task.team} />`, csv: (task) => task.team },
  { key: "benchmark", word: "list.benchmark", isExtra: true, cell: (task) => task.benchmark && html`<a href=${to("benchmark", task.benchmark)}><${Name} text=${task.benchmark} /></a>`, csv: (task) => task.benchmark },
  { key: "action", word: "list.action", cell: (task) => word("action", task.action), csv: (task) => task.action },
  { key: "stage", word: "list.stage", cell: (task) => html`<${Stage} task=${task} />`, csv: (task) => task.error?.code || (isActive(task) ? task.stage : "") },
  { key: "created", word: "list.created", sort: "created", cell: (task) => html`<${Time} text=${task.created_at} short />`, csv: (task) => task.created_at },
  { key: "duration", word: "list.ran", sort: "seconds", isNumber: true, label: "list.ran.short", cell: (task) => seconds(task.run_seconds), csv: (task) => task.run_seconds },
];

/** What a CSV says beyond what the columns show. */
export const MORE_IN_CSV = [
  ["low", (task) => task.outcome?.interval?.low],
  ["high", (task) => task.outcome?.interval?.high],
  ["id", (task) => task.id],
];
