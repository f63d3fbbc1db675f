// The records page: asks the API like any other client, and shows what it answers.

import { change, closeId, openId, trail, wanted } from "./address.js";
import { Refused, ask, askBare, keepToken, token } from "./api.js";
import { below, said, top } from "./detail.js";
import { files, forgetFiles, loadFiles } from "./files.js";
import { firstLanguage, language, meaning, speak, t, word } from "./language.js";
import { loadTasks, showTasks, turnPages } from "./list.js";
import { forgetLog, loadLog, showLog } from "./log.js";
import { ended, isActive, nameOf } from "./views.js";
import { LANGUAGES } from "./words.js";

const TOLD_FOR = 20000;
const FOCUSABLE = "a, button, input, summary, [tabindex]";
const $ = (id) => document.getElementById(id);

const state = {
  page: null, open: "", task: null, batch: null, drawn: "", ended: "", service: null,
  refused: null, refreshing: null, again: false, declined: false,
};

const write = (id, text) => { if ($(id).textContent !== text) $(id).textContent = text; };

// --- problems --------------------------------------------------------------------------------------------------------

function tell(error) {
  if (error instanceof Refused && error.status === 401) {
    if (error.sent !== token()) {
      // Refused before somebody signed in or out: the one that holds now has not been tried.
      setTimeout(refresh);
      return;
    }
    const wrong = Boolean(token());
    keepToken("");
    showOutside();
    if (!state.declined && !$("token-dialog").open) askForToken(wrong);
    return;
  }
  const known = error instanceof Refused ? meaning(error.code) : null;
  const text = error instanceof Refused ? `${known ? known.title : error.code}: ${error.message}` : t("page.fault", { message: error.message });
  write("problem", text);
  $("problem").hidden = false;
}

const calm = () => { $("problem").hidden = true; };

// --- one task --------------------------------------------------------------------------------------------------------

const jobPath = (id) => `/api/score/jobs/${encodeURIComponent(id)}`;

async function loadDetail(id) {
  const task = await ask(`/tasks/${encodeURIComponent(id)}`);
  const more = task.action === "batch" ? await ask(`/batch/${encodeURIComponent(id)}`).catch(() => null)
    : task.action === "rag-score" ? await askBare(jobPath(id)).catch(() => null) : null;
  return [task, more];
}

function showDetail() {
  const { task, batch } = state;
  write("detail-title", nameOf(task));
  const drawn = JSON.stringify([task, batch, files(task), language()]);
  if (drawn === state.drawn) return;
  const first = !state.drawn;
  state.drawn = drawn;
  const kept = place($("detail"));
  $("detail-body").replaceChildren(...top(task, batch, files(task), { cancel, retry }));
  $("detail-below").replaceChildren(...below(task));
  kept();
  const now = ended(task);
  if (!first && now !== state.ended) write("said", said(task));
  state.ended = now;
}

/** Where somebody is within what will be drawn anew: what has the focus, what is unfolded. The answer leads back there. */
function place(within) {
  const focused = within.contains(document.activeElement) ? document.activeElement : null;
  // By what it says, and which of those that say so: what stands before it may come and go.
  const alike = (one) => [...within.querySelectorAll(FOCUSABLE)].filter((each) => each.tagName === one.tagName && each.textContent === one.textContent);
  const index = focused ? alike(focused).indexOf(focused) : -1;
  const caret = focused instanceof HTMLInputElement ? focused.selectionStart : null;
  const open = [...within.querySelectorAll("details[open]")].map((part) => part.dataset.fold);
  return () => {
    for (const part of within.querySelectorAll("details")) {
      part.open = open.includes(part.dataset.fold);
      part.fill?.(); // at once: it may hold what had the focus
    }
    if (!focused || focused.isConnected) return;
    const next = (focused.id && $(focused.id)) || alike(focused)[index] || $("detail-title");
    next.focus();
    if (caret !== null && next.id === focused.id) next.setSelectionRange(caret, caret);
  };
}

function followAddress() {
  // A link of the API's first start brings its token behind the #, which no server is sent. It must not stay there.
  const given = /^#token=([\x21-\x7e]+)$/.exec(location.hash);
  if (given) {
    history.replaceState(history.state, "", location.pathname + location.search);
    signIn(given[1]);
  }
  const { q, state: states, action } = wanted();
  if ($("q").value.trim() !== q) $("q").value = q;
  $("action").value = action;
  $("state").value = states;
  if ($("state").selectedIndex < 0) {
    $("state").value = "";
    change({ state: "" }, { replace: true });
  }
  if (location.hash === "#tasks") return;
  const id = openId();
  const changed = id !== state.open;
  state.open = id;
  $("detail").hidden = !id;
  document.querySelector(".columns").classList.toggle("open", Boolean(id));
  if (!changed) {
    state.drawn = ""; // a batch's members may be asked for otherwise
    return;
  }
  Object.assign(state, { task: null, batch: null, drawn: "", ended: "" });
  forgetFiles();
  $("detail-body").replaceChildren();
  $("detail-below").replaceChildren();
  forgetLog();
  write("detail-title", "…");
  if (id) $("detail-title").focus();
}

function follow() {
  followAddress();
  return refresh();
}

function openTask(id) {
  const next = new URLSearchParams(location.search);
  for (const key of ["member", "first"]) next.delete(key);
  const query = next.toString();
  history.pushState({ trail: trail() }, "", `${location.pathname}${query ? `?${query}` : ""}#${encodeURIComponent(id)}`);
  follow();
}

function closeDetail() {
  const id = state.open;
  if (!id) return;
  closeId();
  follow();
  const link = [...$("rows").children].find((row) => row.dataset.id === id)?.querySelector("a");
  (link || $("tasks")).focus();
}

// --- doing -----------------------------------------------------------------------------------------------------------

async function act(path, how = ask) {
  state.refused = null;
  try {
    return await how(path, { method: "POST" });
  } catch (error) {
    // It would be gone with the refresh that follows, before anybody has read it.
    state.refused = [error, Date.now() + TOLD_FOR];
    return null;
  } finally {
    await refresh();
  }
}

function cancel(task) {
  write("confirm-text", t("confirm.text", { action: word("action", task.action), name: nameOf(task) }));
  $("confirm-yes").onclick = async () => {
    $("confirm-dialog").close();
    await act(`/tasks/${encodeURIComponent(task.id)}/cancel`);
  };
  $("confirm-dialog").showModal();
  $("confirm-no").focus();
}

async function retry(task) {
  if (task.action === "rag-score") {
    const job = await act(`${jobPath(task.id)}/retry`, askBare);
    if (job) openTask(job.job_id);
    return;
  }
  const again = await act(`/tasks/${encodeURIComponent(task.id)}/retry`);
  if (again) openTask(again.id);
}

// --- refreshing ------------------------------------------------------------------------------------------------------

function show() {
  if (state.page) showTasks(state.page, state.open);
  if (state.task) showDetail();
  if (state.task) showLog();
  if (state.service) showService(...state.service);
}

async function load() {
  do {
    state.again = false;
    const id = state.open;
    const asked = location.search;
    const asker = token();
    // What was asked for before somebody signed out or in is not shown to who is there now.
    const isStale = () => token() !== asker && (state.again = true);
    const page = await loadTasks();
    if (isStale()) continue;
    if (location.search === asked) {
      state.page = page;
      showTasks(page, id);
    }
    showInside();
    if (!id) continue;
    const [task, batch] = await loadDetail(id);
    if (isStale() || state.open !== id) continue;
    await loadFiles(task);
    if (isStale() || state.open !== id) continue;
    Object.assign(state, { task, batch });
    showDetail();
    await loadLog(id).catch((error) => write("log", t("log.away", { reason: error.message })));
  } while (state.again);
}

async function attempt() {
  try {
    await load();
    if (state.refused && Date.now() < state.refused[1]) tell(state.refused[0]);
    else calm();
  } catch (error) {
    tell(error);
  } finally {
    state.refreshing = null;
  }
}

function refresh() {
  if (state.refreshing) state.again = true;
  else state.refreshing = attempt();
  return state.refreshing;
}

function showService(word_, text) {
  state.service = [word_, text];
  $("service").classList.toggle("ready", word_ === "ready");
  write("service-state", t(`service.${word_}`));
  write("service-text", text || t(word_ === "ready" ? "service.ready.text" : "api.away"));
  $("service").hidden = false;
}

async function look() {
  try {
    const data = await ask("/readyz");
    showService(data.ready === false ? "unready" : "ready", "");
  } catch (error) {
    if (error instanceof Refused && error.status) showService("unready", error.message);
    else showService("away", "");
  }
}

async function suggest() {
  const text = $("q").value.trim();
  try {
    const asker = token();
    const page = await ask(`/workspaces?${new URLSearchParams({ limit: "20", ...(text ? { search: text } : {}) })}`);
    if (token() !== asker) return;
    $("workspaces").replaceChildren(...page.workspaces.map((one) => {
      const option = document.createElement("option");
      option.value = one.name;
      return option;
    }));
  } catch { /* suggestions only */ }
}

// --- signing in and out ----------------------------------------------------------------------------------------------

function showInside() {
  $("outside").hidden = true;
  $("sign-in").hidden = true;
  $("sign-out").hidden = !token();
}

/** Nothing of any task stays to be seen by those who are not signed in. */
function showOutside() {
  Object.assign(state, { page: null, task: null, batch: null, drawn: "" });
  forgetLog();
  forgetFiles();
  for (const id of ["rows", "detail-body", "detail-below", "workspaces"]) $(id).replaceChildren();
  for (const id of ["count", "said"]) write(id, "");
  if (state.open) write("detail-title", "…");
  for (const id of ["pages", "empty"]) $(id).hidden = true;
  calm();
  $("outside").hidden = false;
  $("sign-in").hidden = false;
  $("sign-out").hidden = !token();
}

function askForToken(wasRefused) {
  $("token").value = "";
  sayOfToken(wasRefused ? "token.wrong" : "");
  $("token-dialog").showModal();
  $("token").focus();
}

function sayOfToken(key) {
  $("token-problem").hidden = !key;
  write("token-problem", key ? t(key) : "");
}

function signIn(value) {
  keepToken(value);
  state.declined = false;
  if ($("token-dialog").open) $("token-dialog").close();
  look();
}

function signOut() {
  keepToken("");
  state.declined = true;
  showOutside();
  $("outside-in").focus();
  refresh();
  look();
}

async function tryToken(value) {
  if (!value) {
    sayOfToken("token.empty");
    $("token").focus();
    return;
  }
  signIn(value);
  await refresh();
}

// --- beginning -------------------------------------------------------------------------------------------------------

function switchLanguage() {
  speak(LANGUAGES.find((one) => one !== language()), true);
  // A link that names a language is handed on with the one that is read now.
  if (new URLSearchParams(location.search).has("lang")) change({ lang: language() }, { replace: true });
  show();
  $("language").focus();
}

function every(wait, work) {
  const step = async () => {
    if (!document.hidden && $("auto").checked) await work();
    setTimeout(step, wait());
  };
  setTimeout(step, wait());
}

function filter() {
  change({ q: $("q").value.trim(), state: $("state").value, action: $("action").value, cursor: "" }, { trail: [] });
  refresh();
}

let typing = 0;
$("q").addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(suggest, 250); });
$("q").addEventListener("focus", suggest, { once: true });
$("q").addEventListener("search", filter);
$("q").addEventListener("change", filter);
$("state").addEventListener("change", filter);
$("action").addEventListener("change", filter);
$("filters").addEventListener("submit", (event) => { event.preventDefault(); filter(); });
$("clear").addEventListener("click", () => { $("q").value = $("state").value = $("action").value = ""; filter(); $("q").focus(); });
$("close").addEventListener("click", closeDetail);
$("language").addEventListener("click", switchLanguage);
$("confirm-no").addEventListener("click", () => $("confirm-dialog").close());
for (const id of ["sign-in", "outside-in"]) $(id).addEventListener("click", () => askForToken(false));
$("sign-out").addEventListener("click", signOut);
$("token-form").addEventListener("submit", (event) => { event.preventDefault(); tryToken($("token").value.trim()); });
$("token-cancel").addEventListener("click", () => $("token-dialog").close());
// Asked for once: not again at every refresh. Closing it by Escape declines, too.
$("token-dialog").addEventListener("close", () => { state.declined = !token(); });
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !document.querySelector("dialog[open]") && event.target.type !== "search") closeDetail();
});
document.addEventListener("click", (event) => {
  // Links to tasks: the filter stays, a batch's members do not. With a key held, the browser opens its own tab or window.
  const link = event.target.closest?.("a[href^='#']");
  if (!link || link.matches(".skip") || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  openTask(decodeURIComponent(link.getAttribute("href").slice(1)));
});
document.addEventListener("visibilitychange", () => { if (!document.hidden && $("auto").checked) refresh(); });
addEventListener("hashchange", follow);
addEventListener("popstate", follow);

speak(firstLanguage());
turnPages(refresh);
follow();
look();
every(() => (state.page?.tasks.some(isActive) ? 2000 : 5000), refresh);
every(() => 15000, look);
