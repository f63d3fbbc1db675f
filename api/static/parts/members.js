// The members of a batch: how many, who is best, and one of them by a part of its name. What is looked for is in the address.

import { html, useLayoutEffect, useRef } from "/static/preact.js";
import { change, route, to } from "/static/core/address.js";
import { count, meaning, seconds, t, word } from "/static/core/language.js";
import { Facts, Figure, Name, Part, Span, Table } from "/static/parts/basic.js";
import { IntervalBar } from "/static/parts/charts.js";

const PAGE = 100;
const COUNTED = ["total", "done", "completed", "failed", "cancelled", "duplicates"];

function outcomeOf(row) {
  if (row.error) return meaning(row.error)?.title || row.error;
  return word("state", row.state !== "completed" || typeof row.pass !== "boolean" ? row.state : row.pass ? "passed" : "unpassed");
}

function Board({ board }) {
  const { query } = route.value;
  const member = (query.get("member") || "").trim();
  const first = Number.parseInt(query.get("first") || "0", 10) || 0;
  const found = member ? board.filter((row) => String(row.workspace).toLowerCase().includes(member.toLowerCase())) : board;
  const from = Math.min(Math.max(0, first), Math.max(0, Math.floor((found.length - 1) / PAGE) * PAGE));
  const page = found.slice(from, from + PAGE);
  const buttons = useRef(null);
  const turned = useRef(null);
  // A button that has led to its end can't keep the focus: the other one has it.
  useLayoutEffect(() => {
    if (turned.current) (turned.current.disabled ? buttons.current?.querySelector("button:not(:disabled)") : turned.current)?.focus();
    turned.current = null;
  }, [from]);
  const turn = (event, to_) => {
    turned.current = event.currentTarget;
    change({ first: to_ || "" });
  };
  const rows = page.map((row) => [
    html`<a href=${to("workspace", row.workspace)}><${Name} text=${row.workspace} /></a>`, row.place === null ? "–" : count(row.place),
    html`<${Figure} value=${row.score} />`,
    html`<${Span} of=${row} /><${IntervalBar} value=${row.score} low=${row.low} high=${row.high} />`, outcomeOf(row)]);
  const head = [t("batch.member"), t("batch.place"), t("batch.score"), t("metrics.interval"), t("batch.outcome")];
  return html`<${Part} title=${t("batch.board")}>
    <label class="field"><span>${t("batch.find")}</span>
      <input id="member" type="search" defaultValue=${member} autocomplete="off" spellcheck=${false}
        onInput=${(event) => change({ member: event.target.value.trim(), first: "" }, { replace: true })} /></label>
    <p class="muted" role="status">${found.length ? t("list.range", { from: from + 1, to: from + page.length, total: found.length }) : t("batch.nobody", { name: member })}</p>
    ${rows.length > 0 && html`<${Table} label=${t("batch.board")} head=${head} rows=${rows} />`}
    ${found.length > PAGE && html`<p class="buttons" ref=${buttons}>
      <button type="button" id="members-back" disabled=${from === 0} onClick=${(event) => turn(event, from - PAGE)}>${t("batch.previous")}</button>
      <button type="button" id="members-on" disabled=${from + PAGE >= found.length} onClick=${(event) => turn(event, from + PAGE)}>${t("batch.next")}</button></p>`}</>`;
}

/** Counts and leaderboard of a batch. */
export function Members({ batch: { summary, leaderboard } }) {
  return html`<${Facts} of=${[
    ...COUNTED.filter((key) => typeof summary[key] === "number" && (summary[key] || key === "total" || key === "done"))
      .map((key) => [t(`batch.${key}`), count(summary[key])]),
    [t("batch.passed"), leaderboard.some((row) => typeof row.pass === "boolean") && count(leaderboard.filter((row) => row.pass === true).length)],
    [t("task.ran"), seconds(summary.seconds)],
  ]} />
  ${leaderboard.length > 0 && html`<${Board} board=${leaderboard} />`}`;
}
