// A table of tasks: sorted by its heads as the address says, with a box in each row to pick it.

import { html } from "/static/preact.js";
import { change } from "/static/core/address.js";
import { t } from "/static/core/language.js";

function Head({ columns, sort, all, onAll }) {
  const turned = (key) => (sort === key ? `-${key}` : key);
  return html`<thead role="rowgroup"><tr role="row">
    <th role="columnheader" scope="col" class="pick"><input type="checkbox" aria-label=${t("list.all")} checked=${all} onChange=${(event) => onAll(event.target.checked)} /></th>
    ${columns.map(({ key, word, sort: by, isNumber }) => html`<th role="columnheader" scope="col" key=${key} data-key=${key} class=${isNumber ? "num" : null}
      aria-sort=${by && sort === by ? "ascending" : by && sort === `-${by}` ? "descending" : null}>
      ${by ? html`<button type="button" class="sort" onClick=${() => change({ sort: turned(by), cursor: "" })}>${t(word)}<span aria-hidden="true">${sort === by ? " ↑" : sort === `-${by}` ? " ↓" : ""}</span></button>` : t(word)}</th>`)}
  </tr></thead>`;
}

function Row({ task, columns, picked, onPick }) {
  return html`<tr role="row" data-id=${task.id}>
    <td role="cell" class="pick"><input type="checkbox" aria-label=${t("list.pick")} checked=${picked} onChange=${(event) => onPick(task.id, event.target.checked)} /></td>
    ${columns.map(({ key, cell, isNumber, label }) => html`<td role="cell" key=${key} data-key=${key} class=${isNumber ? "num" : null} data-label=${label ? t(label) : null}>${cell(task)}</td>`)}
  </tr>`;
}

/** Some tasks in a table that scrolls on its own.
 *
 * @param columns Of them, as in columns.js.
 * @param sort The key that they are sorted by; with a `-` from the greatest down.
 * @param picked The ids of those that are picked; `onPick` is told of the next ones.
 * @param isStale Whether others have been asked for, and are not there yet.
 * @param labelledby The id of what the table is called.
 */
export function TaskTable({ tasks, columns, sort, picked, onPick, isStale, labelledby }) {
  const one = (id, isOn) => onPick(isOn ? [...picked, id] : picked.filter((each) => each !== id));
  return html`<div class="scroll" tabindex="0" role="region" aria-labelledby=${labelledby}>
    <table role="table" class=${isStale ? "records stale" : "records"}>
      <${Head} columns=${columns} sort=${sort} all=${picked.length === tasks.length} onAll=${(isOn) => onPick(isOn ? tasks.map((task) => task.id) : [])} />
      <tbody role="rowgroup" id="rows">${tasks.map((task) => html`<${Row} key=${task.id} task=${task} columns=${columns} picked=${picked.includes(task.id)} onPick=${one} />`)}</tbody>
    </table></div>`;
}
