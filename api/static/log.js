// The log of the task that is open: asked for from where it was left off, and shown as text.

import { ask } from "./api.js";
import { clock, t } from "./language.js";

const PAGE = 200;
const MOST_LINES = 2000;
const $ = (id) => document.getElementById(id);

let log = null;

function line(record) {
  const time = clock(record.time);
  // Of a batch: whose it is.
  const whose = record.workspace ? `${record.workspace}  ` : "";
  return record.source === "model" ? `${time}  ${whose}${record.message}` : `${time}  ${whose}[${record.level}] ${record.message}`;
}

/** Another task is looked at, or none. */
export function forgetLog() {
  log = null;
  $("log").textContent = "";
  $("log-cut").hidden = true;
}

/** Read what came since, and show it. */
export async function loadLog(id) {
  if (!log || log.id !== id) log = { id, offset: 0, whole: 0, before: [], records: [] };
  const mine = log;
  let page;
  do {
    page = await ask(`/tasks/${encodeURIComponent(id)}/logs?offset=${mine.offset}&limit=${PAGE}`);
    if (log !== mine) return;
    mine.records = [...mine.before, ...page.records].slice(-MOST_LINES);
    mine.whole = mine.offset + page.records.length;
    if (page.next_offset !== null) {
      mine.before = mine.records;
      mine.offset = page.next_offset;
    }
  } while (page.next_offset !== null);
  mine.read = true;
  showLog();
}

/** Show what was read; at its end it stays at the end. What is not shown is told. */
export function showLog() {
  if (!log?.read) return;
  const left = log.whole - log.records.length;
  $("log-cut").hidden = left <= 0;
  $("log-cut").textContent = left > 0 ? t("log.cut", { n: left, id: log.id }) : "";
  const text = log.records.length ? log.records.map(line).join("\n") : t("log.none");
  const pre = $("log");
  if (pre.textContent === text) return;
  const atEnd = pre.scrollHeight - pre.scrollTop - pre.clientHeight < 40;
  pre.textContent = text;
  if (atEnd) pre.scrollTop = pre.scrollHeight;
}
