// The records page: asks the API like any other client, and shows what it answers.

import { cells, detail, isActive, logLine, nameOf } from "./views.js";

const PAGE = 50;
const MOST = 500;
const LOG_PAGE = 200;
const LOG_LINES = 2000;
const KEY = "autoscorer-token";
const $ = (id) => document.getElementById(id);

const state = { tasks: [], shown: PAGE, more: false, total: 0, open: null, log: null, busy: false, again: false, detailText: "", declined: false };

// --- asking ----------------------------------------------------------------------------------------------------------

class Refused extends Error {
  constructor(status, error) {
    super(error.message);
    this.status = status;
    this.code = error.code;
  }
}

const token = () => sessionStorage.getItem(KEY);
const headers = () => (token() ? { Authorization: `Bearer ${token()}` } : {});

async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { ...options, headers: { ...headers(), ...options.headers }, cache: "no-store", credentials: "omit" });
  } catch {
    throw new Refused(0, { code: "AWAY", message: "The API does not answer. It is asked again." });
  }
  let body;
  try {
    body = await answer.json();
  } catch {
    throw new Refused(answer.status, { code: "BROKEN", message: `The API answered ${answer.status} without an envelope.` });
  }
  if (!body.ok) throw new Refused(answer.status, body.error);
  return body.data;
}

function tell(error) {
  if (error instanceof Refused && error.status === 401 && !state.declined && !$("token-dialog").open) askForToken(Boolean(token()));
  const text = error instanceof Refused ? `${error.code}: ${error.message}` : `A fault of this page: ${error.message}`;
  if ($("problem").textContent !== text) $("problem").textContent = text;
  $("problem").hidden = false;
}

const calm = () => { $("problem").hidden = true; };

// --- the list --------------------------------------------------------------------------------------------------------

async function loadTasks() {
  const tasks = [];
  let cursor = null;
  do {
    const query = new URLSearchParams({ limit: String(Math.min(MOST, state.shown - tasks.length)) });
    for (const one of $("state").value.split(",").filter(Boolean)) query.append("state", one);
    const workspace = $("workspace").value.trim();
    if (workspace) query.set("workspace", workspace);
    if (cursor) query.set("cursor", cursor);
    const page = await ask(`/tasks?${query}`);
    tasks.push(...page.tasks);
    cursor = page.next_cursor;
    state.total = page.total;
  } while (cursor && tasks.length < state.shown);
  state.tasks = tasks;
  state.more = Boolean(cursor);
}

function showTasks() {
  const body = $("rows");
  const known = new Map([...body.children].map((row) => [row.dataset.id, row]));
  state.tasks.forEach((task, index) => {
    // Rows and cells stay the same elements as long as they can: the focus, a selection and a screen reader's place do.
    const row = known.get(task.id) || document.createElement("tr");
    known.delete(task.id);
    row.dataset.id = task.id;
    row.setAttribute("role", "row");
    row.classList.toggle("here", task.id === state.open);
    for (const [key, content, attributes] of cells(task)) {
      let cell = row.querySelector(`[data-key="${key}"]`);
      if (!cell) {
        cell = document.createElement("td");
        cell.dataset.key = key;
        cell.setAttribute("role", "cell");
        for (const [name, value] of Object.entries(attributes)) cell.setAttribute(name, value);
        row.append(cell);
      }
      const text = typeof content === "string" ? content : content.textContent;
      if (cell.textContent !== text) cell.replaceChildren(content);
    }
    if (body.children[index] !== row) body.insertBefore(row, body.children[index] || null);
  });
  for (const row of known.values()) row.remove();
  const text = state.total === 1 ? "1 task" : `${state.total} tasks`;
  if ($("count").textContent !== text) $("count").textContent = text;
  $("more").hidden = !state.more || state.shown >= MOST;
  $("empty").hidden = state.tasks.length > 0;
  if (!state.tasks.length) showEmpty();
}

function showEmpty() {
  const workspace = $("workspace").value.trim();
  const text = workspace ? `No such task of the workspace ${workspace}.`
    : $("state").value ? "No task is in this state." : "No task was submitted yet: autoscorer submit WORKSPACE, or POST /submit.";
  if ($("empty").textContent !== text) $("empty").textContent = text;
}

// --- one task --------------------------------------------------------------------------------------------------------

async function loadDetail(id) {
  const task = await ask(`/tasks/${encodeURIComponent(id)}`);
  const batch = task.action === "batch" ? await ask(`/batch/${encodeURIComponent(id)}`).catch(() => null) : null;
  return [task, batch];
}

function showDetail(task, batch) {
  const title = `${nameOf(task)}`;
  if ($("detail-title").textContent !== title) $("detail-title").textContent = title;
  const text = JSON.stringify([task, batch]);
  if (text === state.detailText) return;
  state.detailText = text;
  const focused = $("detail-body").contains(document.activeElement) ? document.activeElement.id : "";
  const unfolded = [...$("detail-body").querySelectorAll("details")].map((part) => part.open);
  $("detail-body").replaceChildren(...detail(task, batch, { cancel, retry, artifact }));
  $("detail-body").querySelectorAll("details").forEach((part, index) => { part.open = unfolded[index] || false; });
  if (focused) ($(focused) || $("detail-title")).focus();
}

async function loadLog(id) {
  if (!state.log || state.log.id !== id) state.log = { id, offset: 0, before: [] };
  const log = state.log;
  let page;
  do {
    page = await ask(`/tasks/${encodeURIComponent(id)}/logs?offset=${log.offset}&limit=${LOG_PAGE}`);
    if (state.log !== log) return;
    log.lines = [...log.before, ...page.records.map(logLine)].slice(-LOG_LINES);
    if (page.next_offset !== null) {
      log.before = log.lines;
      log.offset = page.next_offset;
    }
  } while (page.next_offset !== null);
  const text = log.lines.length ? log.lines.join("\n") : "Nothing was logged yet.";
  const place = $("log");
  if (place.textContent === text) return;
  const atEnd = place.scrollHeight - place.scrollTop - place.clientHeight < 40;
  place.textContent = text;
  if (atEnd) place.scrollTop = place.scrollHeight;
}

function openFromAddress() {
  // A link of the API's first start brings its token behind the #, which no server is sent. It must not stay there.
  const given = /^#token=([\x21-\x7e]+)$/.exec(location.hash);
  if (given) {
    history.replaceState(null, "", location.pathname + location.search);
    useToken(given[1]);
  }
  let id = "";
  try {
    id = decodeURIComponent(location.hash.slice(1));
  } catch { /* not written by this page */ }
  if (id === "tasks") return;
  const changed = id !== (state.open || "");
  state.open = id || null;
  $("detail").hidden = !id;
  document.querySelector(".columns").classList.toggle("open", Boolean(id));
  if (changed) {
    state.detailText = "";
    $("detail-body").replaceChildren();
    $("log").textContent = "";
    $("detail-title").textContent = "…";
    if (id) $("detail-title").focus();
    refresh();
  }
}

function closeDetail() {
  const id = state.open;
  if (!id) return;
  history.pushState(null, "", location.pathname);
  openFromAddress();
  const link = [...$("rows").children].find((row) => row.dataset.id === id)?.querySelector("a");
  (link || $("tasks")).focus();
}

// --- doing -----------------------------------------------------------------------------------------------------------

async function act(path) {
  try {
    const task = await ask(path, { method: "POST" });
    calm();
    return task;
  } catch (error) {
    tell(error);
    return null;
  } finally {
    refresh();
  }
}

function cancel(task) {
  $("confirm-text").textContent = `Cancel ${task.action} of ${nameOf(task)}? What it has done so far is not kept.`;
  $("confirm-yes").onclick = async () => {
    $("confirm-dialog").close();
    await act(`/tasks/${encodeURIComponent(task.id)}/cancel`);
  };
  $("confirm-dialog").showModal();
  $("confirm-no").focus();
}

async function retry(task) {
  const again = await act(`/tasks/${encodeURIComponent(task.id)}/retry`);
  if (again) location.hash = encodeURIComponent(again.id);
}

async function artifact(event, address, filename) {
  // A link sends no token; what is fetched with one is saved, because opened here it would be this page's own.
  if (!token()) return;
  event.preventDefault();
  const opener = event.currentTarget;
  try {
    const answer = await fetch(address, { headers: headers(), credentials: "omit" });
    if (!answer.ok) throw new Refused(answer.status, (await answer.json()).error);
    const blob = new Blob([await answer.arrayBuffer()], { type: "application/octet-stream" });
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = filename;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  } catch (error) {
    // Such as the report for a token that may not see ground truth: a note, no link that leads nowhere.
    if (error.status === 403) opener.replaceWith(`${opener.textContent}: ${error.message}`);
    else tell(error);
  }
}

// --- refreshing ------------------------------------------------------------------------------------------------------

async function refresh() {
  if (state.busy) {
    state.again = true;
    return;
  }
  state.busy = true;
  try {
    do {
      state.again = false;
      const id = state.open;
      await loadTasks();
      showTasks();
      if (id) {
        const [task, batch] = await loadDetail(id);
        if (state.open === id) {
          showDetail(task, batch);
          await loadLog(id).catch((error) => { $("log").textContent = `The log can't be read now. ${error.message}`; });
        }
      }
    } while (state.again);
    calm();
  } catch (error) {
    tell(error);
  } finally {
    state.busy = false;
  }
}

function showService(word, text) {
  $("service").classList.toggle("ready", word === "ready");
  if ($("service-state").textContent !== word) $("service-state").textContent = word;
  if ($("service-text").textContent !== text) $("service-text").textContent = text;
  $("service").hidden = false;
}

async function look() {
  try {
    const answer = await fetch("/readyz", { headers: headers(), cache: "no-store", credentials: "omit" });
    const body = await answer.json();
    showService(body.ok ? "ready" : "not ready", body.ok ? "The Prefect server, the pools and their workers answer." : body.error.message);
  } catch {
    showService("away", "The API does not answer.");
  }
}

async function suggest() {
  const text = $("workspace").value.trim();
  try {
    const page = await ask(`/workspaces?${new URLSearchParams({ limit: "20", ...(text ? { search: text } : {}) })}`);
    $("workspaces").replaceChildren(...page.workspaces.map((one) => {
      const option = document.createElement("option");
      option.value = one.name;
      return option;
    }));
  } catch { /* suggestions only */ }
}

function askForToken(wasRefused) {
  $("token-title").textContent = wasRefused ? "The token is not valid here" : "Token";
  $("token").value = "";
  $("token-dialog").showModal();
}

function useToken(value) {
  if (value) sessionStorage.setItem(KEY, value);
  else sessionStorage.removeItem(KEY);
  $("token-dialog").close();
  state.declined = false;
  refresh();
  look();
}

// --- beginning -------------------------------------------------------------------------------------------------------

function every(wait, work) {
  const step = async () => {
    if (!document.hidden && $("auto").checked) await work();
    setTimeout(step, wait());
  };
  setTimeout(step, wait());
}

let typing = 0;
$("workspace").addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(suggest, 250); });
$("workspace").addEventListener("focus", suggest, { once: true });
$("workspace").addEventListener("search", () => refresh());
$("workspace").addEventListener("change", () => { state.shown = PAGE; refresh(); });
$("state").addEventListener("change", () => { state.shown = PAGE; refresh(); });
$("filters").addEventListener("submit", (event) => { event.preventDefault(); state.shown = PAGE; refresh(); });
$("more").addEventListener("click", () => { state.shown += PAGE; refresh(); });
$("close").addEventListener("click", closeDetail);
$("confirm-no").addEventListener("click", () => $("confirm-dialog").close());
$("token-button").addEventListener("click", () => askForToken(false));
$("token-form").addEventListener("submit", (event) => { event.preventDefault(); useToken($("token").value.trim()); });
$("token-forget").addEventListener("click", () => useToken(""));
$("token-cancel").addEventListener("click", () => $("token-dialog").close());
// Asked for once: not again at every refresh. Closing it by Escape declines, too.
$("token-dialog").addEventListener("close", () => { state.declined = !token(); });
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !document.querySelector("dialog[open]")) closeDetail();
});
document.addEventListener("visibilitychange", () => { if (!document.hidden && $("auto").checked) refresh(); });
addEventListener("hashchange", openFromAddress);
addEventListener("popstate", openFromAddress);

openFromAddress();
refresh();
look();
every(() => (state.tasks.some(isActive) ? 2000 : 5000), refresh);
every(() => 15000, look);
