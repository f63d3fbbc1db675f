// The list of tasks: a page at a time, as the address asks for it.

import { change, trail, wanted } from "./address.js";
import { ask } from "./api.js";
import { el } from "./dom.js";
import { t } from "./language.js";
import { cells } from "./views.js";

const PAGE = 100;
const $ = (id) => document.getElementById(id);

/** One page, as the API answers it. */
export function loadTasks() {
  const { q, state, action, cursor } = wanted();
  const query = new URLSearchParams({ limit: String(PAGE) });
  if (action) query.set("action", action);
  for (const one of state.split(",").filter(Boolean)) query.append("state", one);
  if (q) query.set("q", q);
  if (cursor) query.set("cursor", cursor);
  return ask(`/tasks?${query}`);
}

const write = (id, text) => { if ($(id).textContent !== text) $(id).textContent = text; };

function showRow(row, task, open) {
  row.dataset.id = task.id;
  row.setAttribute("role", "row");
  row.classList.toggle("here", task.id === open);
  for (const [key, content, attributes] of cells(task)) {
    const fresh = el("td", { ...attributes, "data-key": key, role: "cell" }, ...content);
    const cell = row.querySelector(`[data-key="${key}"]`);
    if (!cell) row.append(fresh);
    else if (!cell.isEqualNode(fresh)) {
      const focused = cell.contains(document.activeElement);
      cell.replaceWith(fresh);
      if (focused) fresh.querySelector("a")?.focus();
    }
  }
}

/** Show a page of tasks; rows and cells stay the same elements as long as they can: the focus and a selection do. */
export function showTasks(page, open) {
  const body = $("rows");
  const known = new Map([...body.children].map((row) => [row.dataset.id, row]));
  page.tasks.forEach((task, index) => {
    const row = known.get(task.id) || el("tr");
    known.delete(task.id);
    showRow(row, task, open);
    if (body.children[index] !== row) body.insertBefore(row, body.children[index] || null);
  });
  for (const row of known.values()) row.remove();
  const { cursor } = wanted();
  const from = (page.before || 0) + 1;
  const partly = cursor || page.next_cursor;
  write("count", partly && page.tasks.length ? t("list.range", { from, to: from + page.tasks.length - 1, total: page.total })
    : t("list.count", { n: page.total }));
  $("pages").hidden = !partly;
  $("newest").disabled = $("newer").disabled = !cursor;
  $("older").disabled = !page.next_cursor;
  $("older").dataset.cursor = page.next_cursor || "";
  $("empty").hidden = page.tasks.length > 0;
  if (!page.tasks.length) showEmpty();
}

function showEmpty() {
  const { q, state, action, cursor } = wanted();
  write("empty-text", cursor ? t("list.none.page") : q ? t("list.none.named", { name: q })
    : state || action ? t("list.none.filtered") : t("list.none"));
  $("clear").hidden = !(q || state || action || cursor);
}

/** Let the buttons turn pages; `refresh` shows what is asked for then. */
export function turnPages(refresh) {
  const go = (cursor, led) => {
    change({ cursor }, { trail: led });
    refresh().then(() => {
      // A button that has led to its end can't keep the focus.
      if (!document.activeElement || document.activeElement === document.body || document.activeElement.disabled) $("tasks").focus();
      $("list").scrollIntoView({ block: "nearest" });
    });
  };
  $("older").addEventListener("click", () => go($("older").dataset.cursor, [...trail(), wanted().cursor]));
  // A link that was handed on does not know the page before: it leads to the newest.
  $("newer").addEventListener("click", () => go(trail().at(-1) || "", trail().slice(0, -1)));
  $("newest").addEventListener("click", () => go("", []));
}
