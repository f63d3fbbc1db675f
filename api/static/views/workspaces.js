// The workspaces that the token may see, a page at a time, each with what its last Result says.

import { html, useRef } from "/static/preact.js";
import { route, to } from "/static/core/address.js";
import { t } from "/static/core/language.js";
import { useAsked, useLast } from "/static/core/live.js";
import { useTitle } from "/static/core/title.js";
import { Name, Time } from "/static/parts/basic.js";
import { Refusal } from "/static/parts/failure.js";
import { Pages } from "/static/parts/pages.js";
import { SearchField } from "/static/parts/search.js";
import { Score, Verdict } from "/static/parts/workspace.js";

const PAGE = 100;
const PAUSE = 15000;

function Row({ of: each }) {
  return html`<tr role="row" data-name=${each.name}>
    <td role="cell" data-key="name"><a href=${to("workspace", each.name)}><${Name} text=${each.name} /></a></td>
    <td role="cell" data-key="verdict"><${Verdict} of=${each} /></td>
    <td role="cell" data-key="score" class="num"><${Score} of=${each} /></td>
    <td role="cell" data-key="scorer">${each.scorer && html`<${Name} text=${each.scorer} />`}</td>
    <td role="cell" data-key="type">${each.task_type && html`<${Name} text=${each.task_type} />`}</td>
    <td role="cell" data-key="scored" data-label=${t("space.scored")}>${each.scored_at && html`<${Time} text=${each.scored_at} short />`}</td>
  </tr>`;
}

const HEAD = ["list.workspace", "list.state", "list.score", "list.scorer", "bench.type", "space.scored"];

export default function Workspaces() {
  const { query } = route.value;
  const title = useRef(null);
  const search = query.get("search") || "";
  const cursor = query.get("cursor") || "";
  const params = new URLSearchParams({ limit: String(PAGE), ...(search && { search }), ...(cursor && { cursor }) });
  const { data, problem } = useAsked(`/workspaces?${params}`, { pause: () => PAUSE });
  useTitle(t("nav.workspaces"));
  // Another search: what is there stays until the answer has come.
  const page = useLast(data, problem);
  const all = page?.workspaces || [];
  return html`<section class="card">
    <div class="title-line"><h1 id="title" ref=${title} tabindex="-1">${t("nav.workspaces")}</h1>
      <p id="count" class="muted" role="status">${page && t(page.next_cursor || cursor ? "space.count.page" : "space.count", { n: all.length })}</p></div>
    <form id="filters" role="search" aria-label=${t("nav.workspaces")} onSubmit=${(event) => event.preventDefault()}>
      <${SearchField} id="search" name="search" label=${t("filter.name")} hint=${t("space.search.hint")} value=${search} also=${{ cursor: "" }} /></form>
    <${Refusal} of=${problem} />
    ${all.length > 0 && html`<div class="scroll" tabindex="0" role="region" aria-labelledby="title"><table role="table" class=${data ? "records" : "records stale"}>
      <thead role="rowgroup"><tr role="row">${HEAD.map((key) => html`<th role="columnheader" scope="col" class=${key === "list.score" ? "num" : null}>${t(key)}</th>`)}</tr></thead>
      <tbody role="rowgroup" id="rows">${all.map((each) => html`<${Row} key=${each.name} of=${each} />`)}</tbody></table></div>`}
    ${page && !all.length && html`<p class="empty" id="empty">${search ? t("space.none.named", { name: search }) : t("space.none")}
      ${(search || cursor) && html` <a href=${to("workspaces")}>${t("filter.clear")}</a>`}</p>`}
    ${page && html`<${Pages} next=${page.next_cursor} cursor=${cursor} onTurn=${() => title.current.focus()} />`}
  </section>`;
}
