// A leaderboard, of a benchmark or of a batch: who is where, how sure that is, and all of it as a CSV.

import { html, useLayoutEffect, useRef } from "/static/preact.js";
import { change, route } from "/static/core/address.js";
import { csv, save } from "/static/core/csv.js";
import { count, number, t } from "/static/core/language.js";
import { Figure, Span } from "/static/parts/basic.js";
import { IntervalBar } from "/static/parts/charts.js";
import { SearchField } from "/static/parts/search.js";

const PAGE = 100;
const FEW = 10;

const isNumber = (value) => typeof value === "number";

/** The ends that the bars of each metric are drawn between: by these, intervals can be compared by eye. */
function scales(rows) {
  const all = new Map();
  for (const { metric, score, low, high } of rows) {
    const numbers = [score, low, high].filter(isNumber);
    if (!numbers.length) continue;
    const [from, until] = all.get(metric) || [Infinity, -Infinity];
    all.set(metric, [Math.min(from, ...numbers), Math.max(until, ...numbers)]);
  }
  for (const [metric, [from, until]] of all) {
    const pad = (until - from) * 0.05 || Math.abs(until) * 0.05 || 1;
    // A share ends at 0 and 1.
    const isShare = from >= 0 && until <= 1;
    all.set(metric, isShare ? [Math.max(0, from - pad), Math.min(1, until + pad)] : [from - pad, until + pad]);
  }
  return all;
}

/** How many share each place; a metric has places of its own. */
function shared(rows) {
  const all = new Map();
  for (const { metric, place } of rows) all.set(`${place} ${metric}`, (all.get(`${place} ${metric}`) || 0) + 1);
  return ({ metric, place }) => all.get(`${place} ${metric}`);
}

function Place({ of: place, many }) {
  if (!isNumber(place)) return html`<span class="muted">–</span>`;
  return many > 1 ? html`<span title=${t("board.shared", { n: many })}>=${count(place)}</span>` : html`${count(place)}`;
}

function Row({ row, scale, many, who, columns, isOwn }) {
  return html`<tr class=${isOwn ? "own" : null}>
    <td class="num place"><${Place} of=${row.place} many=${many} /></td>
    <th scope="row">${who(row)}</th>
    <td class="num"><strong><${Figure} value=${row.score} /></strong></td>
    <td class="span"><${Span} of=${row} /><${IntervalBar} value=${row.score} low=${row.low} high=${row.high} scale=${scale} /></td>
    ${columns.map(({ cell, isNumber: right }) => html`<td class=${right ? "num" : null}>${cell(row)}</td>`)}
  </tr>`;
}

/** The rows of a leaderboard as the API tells them, best first; which part of them is shown stands in the address.
 *
 * @param find What the field is called in which one looks for a row; `nobody` says that there is none of that name.
 * @param name What a row is called, to be looked for; `who` is its cell, `whoWord` the head of that.
 * @param columns Further columns: {word, cell, isNumber}.
 * @param file What the CSV is called; `keys` are its columns, by their keys in a row.
 * @param isOwn Whether a row is that of who looks.
 */
export function Board({ rows, label, find, nobody, name, who, whoWord, columns, file, keys, isOwn = () => false, children }) {
  const { query } = route.value;
  const member = (query.get("member") || "").trim();
  const first = Number.parseInt(query.get("first") || "0", 10) || 0;
  const wanted = member.toLowerCase();
  const found = wanted ? rows.filter((row) => String(name(row)).toLowerCase().includes(wanted)) : rows;
  const from = Math.min(Math.max(0, first), Math.max(0, Math.floor((found.length - 1) / PAGE) * PAGE));
  const page = found.slice(from, from + PAGE);
  const scale = scales(rows);
  const many = shared(rows);
  const buttons = useRef(null);
  const turned = useRef(null);
  // A button that has led to its end can't keep the focus: the other one has it.
  useLayoutEffect(() => {
    if (turned.current) (turned.current.disabled ? buttons.current?.querySelector("button:not(:disabled)") : turned.current)?.focus();
    turned.current = null;
  }, [from]);
  const turn = (event, next) => {
    turned.current = event.currentTarget;
    change({ first: next || "" });
  };
  const onCsv = () => save(file, csv([keys, ...rows.map((row) => keys.map((key) => (typeof row[key] === "boolean" ? String(row[key]) : row[key])))]));
  const ends = scale.size === 1 ? [...scale.values()][0] : null;
  return html`<div class="board-tools">
      ${rows.length > FEW || member ? html`<${SearchField} id="member" name="member" label=${find} value=${member} also=${{ first: "" }} />` : null}
      ${children}
      <p class="muted" role="status">${found.length ? t("list.range", { from: from + 1, to: from + page.length, total: found.length }) : nobody(member)}</p>
      <button type="button" id="board-csv" onClick=${onCsv}>${t("list.csv")}</button></div>
    ${page.length > 0 && html`<div class="scroll" tabindex="0" role="region" aria-label=${label}><table class="board">
      <thead><tr><th scope="col" class="num">${t("batch.place")}</th><th scope="col">${whoWord}</th><th scope="col" class="num">${t("batch.score")}</th>
        <th scope="col">${t("metrics.interval")}</th>${columns.map(({ word, isNumber: right }) => html`<th scope="col" class=${right ? "num" : null}>${t(word)}</th>`)}</tr></thead>
      <tbody>${page.map((row) => html`<${Row} row=${row} scale=${scale.get(row.metric)} many=${many(row)} who=${who} columns=${columns} isOwn=${isOwn(row)} />`)}</tbody>
    </table></div>`}
    ${ends && page.length > 0 && html`<p class="small muted">${t("board.scale", { from: number(ends[0]), to: number(ends[1]) })}</p>`}
    ${found.length > PAGE && html`<p class="buttons" ref=${buttons}>
      <button type="button" id="members-back" disabled=${from === 0} onClick=${(event) => turn(event, from - PAGE)}>${t("batch.previous")}</button>
      <button type="button" id="members-on" disabled=${from + PAGE >= found.length} onClick=${(event) => turn(event, from + PAGE)}>${t("batch.next")}</button></p>`}`;
}
