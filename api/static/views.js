// What the page shows, made of elements and text nodes only: every word of it may have been written by a stranger.

/** An element; strings among the children become text. */
export function el(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
}

const longTime = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const day = new Intl.DateTimeFormat(undefined, { dateStyle: "short" });

export function number(value) {
  if (typeof value !== "number") return value === null || value === undefined ? "–" : String(value);
  return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(5)));
}

function time(text, short = false) {
  if (!text) return "–";
  const moment = new Date(text);
  if (Number.isNaN(moment.getTime())) return text;
  const today = moment.toDateString() === new Date().toDateString();
  const shown = short ? (today ? clock : day).format(moment) : longTime.format(moment);
  return el("time", { datetime: text, title: short ? longTime.format(moment) : null }, shown);
}

export function seconds(value) {
  if (typeof value !== "number") return "";
  if (value < 10) return `${value.toFixed(1)} s`;
  if (value < 120) return `${Math.round(value)} s`;
  const minutes = Math.round(value / 60);
  return minutes < 120 ? `${minutes} min` : `${(minutes / 60).toFixed(1)} h`;
}

function size(bytes) {
  if (typeof bytes !== "number") return "";
  if (bytes < 1024) return `${bytes} B`;
  return bytes < 1024 ** 2 ? `${(bytes / 1024).toFixed(1)} KiB` : `${(bytes / 1024 ** 2).toFixed(1)} MiB`;
}

export const isActive = (task) => ["queued", "running", "cancelling"].includes(task.state);

export function nameOf(task) {
  if (task.workspace) return task.workspace;
  const all = task.workspaces || [];
  return all.length > 2 ? `${all[0]} and ${all.length - 1} more` : all.join(", ") || "batch";
}

export function state(task) {
  return el("span", { class: `state ${task.state}` }, task.state);
}

/** The cells of a task's row, as [key, content, attributes]. */
export function cells(task) {
  const progress = task.progress ? `${task.progress.done}/${task.progress.total}` : "";
  const attempt = task.attempts > 1 ? `attempt ${task.attempts}` : "";
  const stage = [isActive(task) ? task.stage : task.error?.code, progress, attempt].filter(Boolean).join(", ");
  return [
    ["name", el("a", { href: `#${encodeURIComponent(task.id)}` }, nameOf(task)), {}],
    ["state", state(task), {}],
    ["action", task.action, {}],
    ["stage", stage, {}],
    ["created", time(task.created_at, true), {}],
    ["duration", seconds(task.run_seconds), { class: "num", "data-label": "ran" }],
  ];
}

function facts(pairs) {
  const list = el("dl", { class: "facts" });
  for (const [name, value] of pairs) {
    if (value === null || value === undefined || value === "") continue;
    list.append(el("dt", {}, name), el("dd", {}, value));
  }
  return list;
}

function table(caption, head, rows) {
  const line = (tag, values) =>
    el("tr", {}, ...values.map((value, column) => el(tag, { class: column ? "num" : null, scope: tag === "th" ? "col" : null }, value)));
  return [
    el("h3", {}, caption),
    el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
      el("table", {}, el("thead", {}, line("th", head)), el("tbody", {}, ...rows.map((row) => line("td", row))))),
  ];
}

function errorBox(error) {
  const details = Object.keys(error.details || {}).length
    ? el("details", {}, el("summary", {}, "Details"), el("pre", { tabindex: "0" }, JSON.stringify(error.details, null, 1)))
    : null;
  return el("div", { class: "problem" }, el("strong", {}, error.code), ` (${error.stage}): ${error.message}`, details);
}

const isResult = (task) => "higher_is_better" in (task.result?.summary || {});

function scoreParts(task) {
  if (!isResult(task) || task.result.error) return [];
  const summary = task.result.summary;
  const verdict = summary.pass === true ? el("span", { class: "pass" }, "pass")
    : summary.pass === false ? el("span", { class: "fail" }, "fail") : null;
  return [el("p", { class: "score" }, el("span", { class: "muted" }, "score"), el("strong", {}, number(summary.score)),
    verdict, summary.rank ? el("span", {}, `rank ${summary.rank}`) : null)];
}

function resultParts(task, openArtifact) {
  const result = task.result;
  const parts = [];
  if (!result || typeof result !== "object") return parts;
  const metrics = Object.entries(result.metrics || {});
  if (metrics.length) {
    const intervals = result.intervals || {};
    const rows = metrics.map(([name, value]) => {
      const span = intervals[name];
      return [name, number(value), span ? `${number(span.low)} – ${number(span.high)}` : ""];
    });
    parts.push(...table("Metrics", ["metric", "value", "interval"], rows));
  }
  const notes = Array.isArray(result.notes) ? result.notes : [];
  if (notes.length) parts.push(el("h3", {}, "Notes"), el("ul", {}, ...notes.map((note) => el("li", {}, String(note)))));
  const artifacts = Object.entries(result.artifacts || {});
  if (artifacts.length && task.workspace) {
    const links = artifacts.map(([name, artifact]) => {
      const path = String(artifact.path).split("/").map(encodeURIComponent).join("/");
      const address = `/artifacts/${path}?workspace=${encodeURIComponent(task.workspace)}`;
      const link = el("a", { href: address, target: "_blank", rel: "noopener noreferrer" }, name);
      link.addEventListener("click", (event) => openArtifact(event, address, String(artifact.path).split("/").pop()));
      return el("li", {}, link, ` ${size(artifact.size)}`);
    });
    parts.push(el("h3", {}, "Artifacts"), el("ul", {}, ...links));
  }
  if (!isResult(task) && task.action !== "batch") {
    parts.push(el("details", {}, el("summary", {}, "Report"), el("pre", { tabindex: "0" }, JSON.stringify(result, null, 1))));
  }
  return parts;
}

function batchParts(batch) {
  if (!batch) return [];
  const shown = Object.entries(batch.summary).filter(([, value]) => value !== null).map(([name, value]) => [name, number(value)]);
  const rows = batch.leaderboard.slice(0, 200).map((row) => [
    row.workspace, row.place === null ? "–" : String(row.place), number(row.score), row.error || row.state,
  ]);
  return [el("h3", {}, "Batch"), facts(shown), ...(rows.length ? table("Leaderboard", ["workspace", "place", "score", "outcome"], rows) : [])];
}

function callbackText(callback) {
  if (!callback) return null;
  const error = callback.last_error ? `: ${callback.last_error}` : "";
  return `${callback.state}, ${callback.attempts} attempt${callback.attempts === 1 ? "" : "s"}${error}`;
}

/** Everything of a task but its log. */
export function detail(task, batch, actions) {
  const parts = [];
  if (task.error) parts.push(errorBox(task.error));
  parts.push(...scoreParts(task));
  if (task.progress && isActive(task)) {
    parts.push(el("progress", { value: task.progress.done, max: Math.max(task.progress.total, 1), "aria-label": "Workspaces done" }));
  }
  const button = isActive(task)
    ? el("button", { type: "button", id: "cancel", disabled: task.state === "cancelling" }, "Cancel")
    : el("button", { type: "button", id: "retry" }, "Run again");
  button.addEventListener("click", () => (isActive(task) ? actions.cancel(task) : actions.retry(task)));
  parts.push(el("p", { class: "buttons" }, button));
  parts.push(
    facts([
      ["State", state(task)],
      ["Action", task.action],
      ["Stage", isActive(task) ? task.stage : null],
      ["Scorer", task.scorer],
      ["Params", task.params && Object.keys(task.params).length ? el("code", {}, JSON.stringify(task.params)) : null],
      ["Priority", task.priority === "normal" ? null : task.priority],
      ["Created", time(task.created_at)],
      ["Waited", seconds(task.queue_seconds)],
      ["Ran", seconds(task.run_seconds)],
      ["Attempts", task.attempts > 1 ? String(task.attempts) : null],
      ["Repeats", task.retry_of ? el("a", { href: `#${encodeURIComponent(task.retry_of)}` }, task.retry_of) : null],
      ["Reason", task.reason],
      ["Callback", callbackText(task.callback)],
      ["Task", el("span", { class: "mono" }, task.id)],
      ["Flow run", task.flow_run_id ? el("span", { class: "mono" }, task.flow_run_id) : null],
    ]),
  );
  parts.push(...resultParts(task, actions.artifact), ...batchParts(batch));
  return parts;
}

export function logLine(record) {
  const moment = new Date(record.time);
  const clock = Number.isNaN(moment.getTime()) ? "" : moment.toLocaleTimeString();
  const whose = record.workspace ? `${record.workspace}  ` : "";
  return record.source === "model" ? `${clock}  ${whose}${record.message}` : `${clock}  ${whose}[${record.level}] ${record.message}`;
}
