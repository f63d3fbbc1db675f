// The list of records: a page at a time, as the address asks for it.

import { html, useEffect, useRef, useState } from "/static/preact.js";
import { change, chosen, route, to } from "/static/core/address.js";
import { csv, save } from "/static/core/csv.js";
import { keep, kept } from "/static/core/kept.js";
import { t } from "/static/core/language.js";
import { useAsked, useLast } from "/static/core/live.js";
import { useTitle } from "/static/core/title.js";
import { COLUMNS, MORE_IN_CSV } from "/static/parts/columns.js";
import { ACTIONS, Filters, STATES, isWithMembers } from "/static/parts/filters.js";
import { Refusal } from "/static/parts/failure.js";
import { Pages } from "/static/parts/pages.js";
import { Selected } from "/static/parts/selected.js";
import { TaskTable } from "/static/parts/task-table.js";

const PAGE = 100;
const SORTS = ["created", ...COLUMNS.map((column) => column.sort).filter((sort) => sort && sort !== "created")];

/** What the address asks of the list, as the API is asked for it. */
function asked(query) {
  const params = new URLSearchParams({ limit: String(PAGE) });
  for (const key of ["q", "scorer", "benchmark", "team", "since", "until", "cursor"]) {
    for (const value of query.getAll(key)) if (value) params.append(key, value);
  }
  // What no list has is left out, and does no harm.
  const known = { state: STATES, action: ACTIONS, pass: ["true", "false"] };
  for (const [key, values] of Object.entries(known)) {
    for (const one of (query.get(key) || "").split(",")) if (values.includes(one)) params.append(key, one);
  }
  if (isWithMembers(query)) params.set("members", "true");
  const sort = chosen(query, "sort", SORTS.flatMap((each) => [each, `-${each}`]));
  if (query.has("sort")) params.set("sort", sort);
  return params;
}

function Empty({ query }) {
  const name = query.get("q");
  const isFiltered = [...query.keys()].some((key) => !["sort", "lang"].includes(key));
  const text = query.get("cursor") ? t("list.none.page") : name ? t("list.none.named", { name }) : isFiltered ? t("list.none.filtered") : t("list.none");
  return html`<p class="empty" id="empty">${text} ${isFiltered && html`<a href=${to("records")}>${t("filter.clear")}</a>`}</p>`;
}

function Columns({ hidden, onHide }) {
  return html`<details class="menu"><summary>${t("list.columns")}</summary><div>${COLUMNS.slice(1).map(({ key, word }) => html`
    <label class="check"><input type="checkbox" checked=${!hidden.includes(key)} onChange=${(event) => onHide(key, !event.target.checked)} /> ${t(word)}</label>`)}</div></details>`;
}

export default function Records() {
  const { query } = route.value;
  const title = useRef(null);
  const [picked, pick] = useState([]);
  const [hidden, hide] = useState(() => kept("columns", COLUMNS.filter((column) => column.isExtra).map((column) => column.key)));
  const params = asked(query);
  const path = `/tasks?${params}`;
  const { data, problem, again } = useAsked(path);
  useTitle(query.get("q") ? t("list.titled", { name: query.get("q") }) : t("list.title"));
  useEffect(() => pick([]), [path]);
  // Another filter: what is there stays until the answer has come.
  const page = useLast(data, problem);
  const columns = COLUMNS.filter((column) => !hidden.includes(column.key));
  const sort = params.get("sort") || "-created";
  const onHide = (key, isHidden) => {
    const next = isHidden ? [...hidden, key] : hidden.filter((each) => each !== key);
    keep("columns", next);
    hide(next);
  };
  const onCsv = () => save("records.csv", csv([
    [...columns.map((column) => column.key), ...MORE_IN_CSV.map(([key]) => key)],
    ...page.tasks.map((task) => [...columns.map((column) => column.csv(task)), ...MORE_IN_CSV.map(([, value]) => value(task))]),
  ]));
  const from = (page?.before || 0) + 1;
  const isPart = page && (query.get("cursor") || page.next_cursor) && page.tasks.length;
  const chosenTasks = page ? page.tasks.filter((task) => picked.includes(task.id)) : [];
  return html`<section id="list" class="card">
    <div class="title-line"><h1 id="title" ref=${title} tabindex="-1">${t("list.title")}</h1>
      <p id="count" class="muted" role="status">${page && (isPart ? t("list.range", { from, to: from + page.tasks.length - 1, total: page.total }) : t("list.count", { n: page.total }))}</p>
      <div class="tools"><${Columns} hidden=${hidden} onHide=${onHide} />
        <button type="button" id="csv" disabled=${!page?.tasks.length} onClick=${onCsv}>${t("list.csv")}</button></div></div>
    <${Filters} query=${query} />
    <${Refusal} of=${problem} />
    <${Selected} tasks=${chosenTasks} onDone=${() => { pick([]); again(); }} />
    ${page && page.tasks.length > 0 && html`<${TaskTable} tasks=${page.tasks} columns=${columns} sort=${sort} picked=${picked} onPick=${pick} isStale=${!data} labelledby="title" />`}
    ${page && !page.tasks.length && html`<${Empty} query=${query} />`}
    ${page && html`<${Pages} next=${page.next_cursor} cursor=${query.get("cursor") || ""} onTurn=${() => title.current.focus()} />`}
  </section>`;
}
