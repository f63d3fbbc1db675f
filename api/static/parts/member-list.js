// The members of a batch, each a record of its own: sorted, narrowed to a state, a page at a time.

import { html, useEffect, useRef, useState } from "/static/preact.js";
import { change, chosen, route } from "/static/core/address.js";
import { t, word } from "/static/core/language.js";
import { useAsked, useLast } from "/static/core/live.js";
import { Name, Part } from "/static/parts/basic.js";
import { COLUMNS, placeOf } from "/static/parts/columns.js";
import { Refusal } from "/static/parts/failure.js";
import { Filter } from "/static/parts/filters.js";
import { Pages } from "/static/parts/pages.js";
import { SearchField } from "/static/parts/search.js";
import { Selected } from "/static/parts/selected.js";
import { TaskTable } from "/static/parts/task-table.js";
import { nameOf } from "/static/parts/task.js";

const PAGE = 50;
const STATES = ["completed", "failed", "cancelled"];
// Whose members they are, the page says.
const NAME = { cell: (task) => html`<a href=${placeOf(task)}><${Name} text=${nameOf(task)} /></a>` };
const SHOWN = COLUMNS.filter(({ key }) => ["name", "state", "score", "metric", "stage", "duration"].includes(key))
  .map((column) => (column.key === "name" ? { ...column, ...NAME } : column));
const SORTS = ["-score", ...SHOWN.flatMap(({ sort }) => (sort ? [sort, `-${sort}`] : []))];
// Milliseconds after which a member that the batch has told of is in the list.
const RECORDED = 2500;

/** The list of a batch's members; nothing where none is recorded.
 *
 * @param batch The batch's id.
 * @param done How many have ended, as the batch says: another number asks for the list again.
 */
export function MemberList({ batch, done }) {
  const { query } = route.value;
  const [picked, pick] = useState([]);
  const title = useRef(null);
  const state = chosen(query, "state", ["", ...STATES]);
  const sort = chosen(query, "sort", SORTS);
  const params = new URLSearchParams({ parent: batch, limit: String(PAGE), sort });
  if (state) params.set("state", state);
  for (const key of ["q", "cursor"]) if (query.get(key)) params.set(key, query.get(key));
  const path = `/tasks?${params}`;
  const { data, problem, again } = useAsked(path, { concerns: (event) => event.id === batch });
  const page = useLast(data, problem);
  useEffect(() => pick([]), [path]);
  useEffect(() => {
    const timer = setTimeout(again, RECORDED);
    return () => clearTimeout(timer);
  }, [done]);
  const isNarrowed = Boolean(state || query.get("q") || query.get("cursor"));
  const isThere = data ? data.total > 0 || isNarrowed : page || problem;
  if (!isThere) return null;
  const from = (page?.before || 0) + 1;
  return html`<${Part} title=${html`<span id="members-title" ref=${title} tabindex="-1">${t("members.title")}</span>`} id="members">
    <div class="board-tools">
      <${SearchField} id="member-name" name="q" label=${t("batch.find")} value=${query.get("q") || ""} also=${{ cursor: "" }} />
      <${Filter} id="member-state" label=${t("filter.state")} value=${state} of=${STATES.map((each) => [each, word("state", each)])} onChange=${(next) => change({ state: next, cursor: "" })} />
      <p id="member-count" class="muted" role="status">${page && (page.tasks.length ? t("list.range", { from, to: from + page.tasks.length - 1, total: page.total }) : t("members.none"))}</p></div>
    <${Refusal} of=${problem} />
    <${Selected} tasks=${page ? page.tasks.filter((task) => picked.includes(task.id)) : []} onDone=${() => { pick([]); again(); }} />
    ${page?.tasks.length > 0 && html`<${TaskTable} tasks=${page.tasks} columns=${SHOWN} sort=${sort} picked=${picked} onPick=${pick} isStale=${!data} labelledby="members-title" />`}
    ${page && html`<${Pages} next=${page.next_cursor} cursor=${query.get("cursor") || ""} onTurn=${() => title.current?.focus()} />`}</>`;
}
