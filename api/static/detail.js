// One task: what came of it first, then the numbers, then how it came about.

import { el, facts, figure, fold, name, table, valueOf } from "./dom.js";
import { failure } from "./failure.js";
import { bytes, count, number, percent, seconds, t, word } from "./language.js";
import { answerScores } from "./job.js";
import { members } from "./members.js";
import { chip, ended, isActive, nameOf, span, time } from "./views.js";

const FIRST_CLASSES = 12;
const MOST_CLASSES = 1000;
const OF_A_SUMMARY = ["score", "pass", "rank", "higher_is_better"];

const isResult = (task) => "higher_is_better" in (task.result?.summary || {});

/** The main metric's name: the one that the summary repeats under its own name. */
function mainMetric(result) {
  const extra = Object.keys(result.summary).filter((key) => !OF_A_SUMMARY.includes(key));
  const metrics = result.metrics || {};
  return extra.find((key) => key in metrics) || Object.keys(metrics).find((key) => metrics[key] === result.summary.score && metrics[key] !== null) || extra[0] || "score";
}

// --- the score -------------------------------------------------------------------------------------------------------

function threshold(result) {
  const needed = result.versioning?.params?.pass_threshold;
  if (typeof needed !== "number") return t("score.nothreshold");
  return t(result.summary.higher_is_better === false ? "score.most" : "score.least", { threshold: String(needed) });
}

function hero(task) {
  const { result } = task;
  const main = mainMetric(result);
  const interval = result.intervals?.[main];
  const { score, rank, pass } = result.summary;
  return el("div", { class: "hero" },
    el("h3", { class: "first" }, name(main)),
    el("p", { class: "score" },
      score === null || score === undefined ? el("span", { class: "muted" }, t("score.undefined")) : el("strong", {}, figure(score)),
      typeof pass === "boolean" ? chip(pass ? "passed" : "unpassed") : null,
      rank ? el("span", { class: "state" }, t("score.rank", { rank })) : null),
    interval ? el("p", { title: `${interval.low} – ${interval.high}` },
      t("score.interval", { level: percent(interval.level ?? 0.95), low: number(interval.low), high: number(interval.high) }),
      interval.method ? el("span", { class: "muted" }, " (", name(interval.method), ")") : null) : null,
    el("p", {}, threshold(result), el("span", { class: "muted" }, " · ", t(result.summary.higher_is_better === false ? "score.lower" : "score.higher"))));
}

// --- the numbers -----------------------------------------------------------------------------------------------------

/** Plain metrics, and those by class (f1/cat) as [prefixes, class → prefix → value]. */
function split(metrics, main) {
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

function classTables([prefixes, classes, columns]) {
  const head = [t("metrics.class"), ...prefixes.map(name)];
  const rows = (some) => some.map((each) => [name(each), ...columns.map((column) => figure(column.get(each)))]);
  const rest = classes.slice(FIRST_CLASSES);
  const parts = [el("h3", {}, t("metrics.classes")), table(t("metrics.classes"), head, rows(classes.slice(0, FIRST_CLASSES)))];
  if (rest.length) {
    const left = rest.length > MOST_CLASSES ? el("p", { class: "muted" }, t("metrics.left", { n: rest.length - MOST_CLASSES })) : null;
    parts.push(fold(`classes ${prefixes.join(" ")}`, t("metrics.others", { n: rest.length }),
      () => [table(t("metrics.classes"), head, rows(rest.slice(0, MOST_CLASSES))), left].filter(Boolean)));
  }
  return parts;
}

function numbers(result) {
  const metrics = result.metrics || {};
  const intervals = result.intervals || {};
  if (!Object.keys(metrics).length) return [];
  const [plain, groups] = split(metrics, mainMetric(result));
  const withSpans = Object.keys(intervals).length > 0;
  const head = [t("metrics.name"), t("metrics.value"), ...(withSpans ? [t("metrics.interval")] : [])];
  const rows = plain.map((key) => [name(key), figure(metrics[key]), ...(withSpans ? [span(intervals[key])] : [])]);
  return [el("h3", {}, t("metrics.title")), rows.length ? table(t("metrics.title"), head, rows) : null, ...groups.flatMap(classTables)];
}

// --- pictures and files ----------------------------------------------------------------------------------------------

function notes(result) {
  const all = Array.isArray(result.notes) ? result.notes : [];
  return all.length ? [el("h3", {}, t("notes.title")), el("ul", {}, ...all.map((note) => el("li", { dir: "auto" }, String(note))))] : [];
}

function plots(files) {
  const pictures = files.all.filter((file) => file.isPicture && file.kept);
  return pictures.length ? [el("h3", {}, t("plots.title")), el("div", { class: "plots" }, ...pictures.map((file) => file.figure()))] : [];
}

function listing(files) {
  if (!files.all.length) return files.problem ? [el("h3", {}, t("files.title")), el("p", { class: "muted" }, t("files.away", { reason: files.problem }))] : [];
  const lines = files.all.map((file) => el("li", {},
    file.kept && !files.problem ? file.link() : name(file.name), " ",
    el("span", { class: "muted" }, file.kept ? bytes(file.size) : t("files.gone"))));
  return [
    el("h3", {}, t("files.title")), el("ul", {}, ...lines),
    files.problem ? el("p", { class: "muted" }, t("files.away", { reason: files.problem })) : null,
    files.all.every((file) => file.kept) ? null : el("p", { class: "muted" }, t("files.gone.why"))];
}

// --- how it came about -----------------------------------------------------------------------------------------------

function callbackText(callback) {
  if (!callback) return null;
  const said = t("callback.attempts", { state: word("callback", callback.state), n: callback.attempts });
  return el("span", {}, said, callback.last_error ? ": " : null, callback.last_error ? name(callback.last_error) : null);
}

function params(task) {
  const given = task.result?.versioning?.params || task.params;
  const pairs = Object.entries(given || {});
  return pairs.length ? [el("h3", {}, t("params.title")), facts(pairs.map(([key, value]) => [name(key), valueOf(value)]))] : [];
}

function provenance(task) {
  const ids = task.result?.versioning;
  if (!ids) return [];
  const mono = (text) => (text ? el("span", { class: "mono" }, name(text)) : null);
  const scorer = [ids.scorer, ids.scorer_version].filter(Boolean).join(" ");
  const list = facts([
    [t("provenance.autoscorer"), ids.autoscorer],
    [t("provenance.scorer"), scorer && name(scorer)],
    [t("provenance.time"), ids.timestamp ? time(ids.timestamp) : null],
    [t("provenance.host"), ids.hostname && name(ids.hostname)],
    [t("provenance.image"), mono(ids.image)],
    [t("provenance.digest"), mono(ids.image_digest)],
    [t("provenance.code"), mono(ids.scorer_sha256)],
    [t("provenance.truth"), mono(ids.ground_truth_sha256)],
    [t("provenance.predictions"), mono(ids.predictions_sha256)],
    [t("provenance.input"), mono(ids.input_sha256)],
  ]);
  return list ? [el("h3", {}, t("provenance.title")), list] : [];
}

function aboutTask(task) {
  return [el("h3", {}, t("task.title")), facts([
    [t("task.state"), chip(task.state)],
    [t("task.action"), word("action", task.action)],
    [t("task.stage"), isActive(task) ? word("stage", task.stage) : null],
    [t("task.scorer"), task.scorer && name(task.scorer)],
    [t("task.priority"), task.priority === "normal" ? null : word("priority", task.priority)],
    [t("task.created"), time(task.created_at)],
    [t("task.waited"), seconds(task.queue_seconds)],
    [t("task.ran"), seconds(task.run_seconds)],
    [t("task.attempts"), task.attempts > 1 ? count(task.attempts) : null],
    [t("task.repeats"), task.retry_of ? el("a", { href: `#${encodeURIComponent(task.retry_of)}` }, task.retry_of) : null],
    [t("task.reason"), task.reason && name(task.reason)],
    [t("task.callback"), callbackText(task.callback)],
    [t("task.id"), el("span", { class: "mono" }, task.id)],
    [t("task.flow"), task.flow_run_id ? el("span", { class: "mono" }, task.flow_run_id) : null],
  ])];
}

// --- all of it -------------------------------------------------------------------------------------------------------

/**
 * What came of a task: score or failure, pictures, numbers, files. `files` are those of its Result, `more` is what a
 * batch has of its members, or a job that scores one answer of its metrics.
 */
export function top(task, more, files, actions) {
  const parts = [];
  const isJob = task.action === "rag-score";
  if (task.error) parts.push(failure(task.error));
  else if (isJob) parts.push(more ? null : el("p", {}, chip(ended(task))));
  else if (isResult(task)) parts.push(hero(task));
  else parts.push(el("p", {}, chip(ended(task))));
  if (task.progress && isActive(task)) {
    const said = t(isJob ? "job.done" : "detail.done", { done: task.progress.done, total: task.progress.total });
    parts.push(el("progress", { value: task.progress.done, max: Math.max(task.progress.total, 1), "aria-label": said }), el("p", { class: "muted" }, said));
  }
  const button = isActive(task)
    ? el("button", { type: "button", id: "cancel", disabled: task.state === "cancelling" }, t("detail.cancel"))
    : el("button", { type: "button", id: "retry" }, t("detail.retry"));
  button.addEventListener("click", () => (isActive(task) ? actions.cancel(task) : actions.retry(task)));
  const report = files.problem ? null : files.all.find((file) => file.kept && file.file === "report.html");
  parts.push(el("p", { class: "buttons" }, report ? report.link(t("files.report"), "button") : null, button));
  if (isJob) {
    if (more) parts.unshift(...answerScores(more));
    return parts.filter(Boolean);
  }
  if (more) parts.push(...members(more));
  if (isResult(task)) parts.push(...plots(files), ...numbers(task.result), ...notes(task.result), ...listing(files));
  else if (task.result && typeof task.result === "object" && task.action !== "batch") {
    parts.push(el("h3", {}, t("found.title")), valueOf(task.result));
  }
  return parts.filter(Boolean);
}

/** How it came about; stands below the log. */
export const below = (task) => [...params(task), ...aboutTask(task), ...provenance(task)].filter(Boolean);

/** What is said aloud when a task that is looked at has changed. */
export const said = (task) => t("detail.said", { name: nameOf(task), state: word("state", ended(task)) });
