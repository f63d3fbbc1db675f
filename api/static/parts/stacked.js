// A table whose rows become cards where there is no room for its columns.

import { html } from "/static/preact.js";

/** `head` are words; `rows` are {key, cells}, of which the first cell names the row. The roles stay where the layout is no table's. */
export function Stacked({ id, label, head, rows }) {
  return html`<div class="scroll" tabindex="0" role="region" aria-label=${label}><table id=${id} class="stacked-rows" role="table">
    <thead role="rowgroup"><tr role="row">${head.map((each) => (each ? html`<th role="columnheader" scope="col">${each}</th>` : html`<td role="cell"></td>`))}</tr></thead>
    <tbody role="rowgroup">${rows.map(({ key, cells }) => html`<tr key=${key} role="row">${cells.map((each, column) => (column
      ? html`<td role="cell" data-label=${head[column]}>${each}</td>`
      : html`<th role="rowheader" scope="row">${each}</th>`))}</tr>`)}</tbody></table></div>`;
}
