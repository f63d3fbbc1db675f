// The members of a batch: how many, who is best, and one of them by a part of its name. What is looked for is in the address.

import { change, wanted } from "./address.js";
import { el, facts, figure, name, table } from "./dom.js";
import { count, meaning, seconds, t, word } from "./language.js";
import { span } from "./views.js";

const PAGE = 100;
const COUNTED = ["total", "done", "completed", "failed", "cancelled", "duplicates"];

function outcomeOf(row) {
  if (row.error) return meaning(row.error)?.title || row.error;
  return word("state", row.state !== "completed" || typeof row.pass !== "boolean" ? row.state : row.pass ? "passed" : "unpassed");
}

function fill(board, place) {
  const { member, first } = wanted();
  const found = member ? board.filter((row) => String(row.workspace).toLowerCase().includes(member.toLowerCase())) : board;
  const from = Math.min(first, Math.max(0, Math.floor((found.length - 1) / PAGE) * PAGE));
  const page = found.slice(from, from + PAGE);
  const rows = page.map((row) => [
    name(row.workspace), row.place === null ? "–" : count(row.place), figure(row.score),
    span(typeof row.low === "number" && typeof row.high === "number" ? row : null), outcomeOf(row)]);
  const head = [t("batch.member"), t("batch.place"), t("batch.score"), t("metrics.interval"), t("batch.outcome")];
  const turn = (id, key, to, there) => {
    const button = el("button", { type: "button", id, disabled: !there }, t(key));
    button.addEventListener("click", () => {
      change({ first: to });
      fill(board, place);
      place.querySelector(`#${id}:not(:disabled), button:not(:disabled)`)?.focus();
    });
    return button;
  };
  place.replaceChildren(...[
    el("p", { class: "muted", role: "status" }, found.length
      ? t("list.range", { from: from + 1, to: from + page.length, total: found.length }) : t("batch.nobody", { name: member })),
    rows.length ? table(t("batch.board"), head, rows) : null,
    found.length > PAGE ? el("p", { class: "buttons" },
      turn("members-back", "batch.previous", Math.max(0, from - PAGE), from > 0),
      turn("members-on", "batch.next", from + PAGE, from + PAGE < found.length)) : null,
  ].filter(Boolean));
}

/** Counts and leaderboard of a batch. */
export function members(batch) {
  const { summary, leaderboard } = batch;
  const counts = facts([
    ...COUNTED.filter((key) => typeof summary[key] === "number" && (summary[key] || key === "total" || key === "done"))
      .map((key) => [t(`batch.${key}`), count(summary[key])]),
    [t("batch.passed"), leaderboard.some((row) => typeof row.pass === "boolean") ? count(leaderboard.filter((row) => row.pass === true).length) : null],
    [t("task.ran"), seconds(summary.seconds)]]);
  if (!leaderboard.length) return [counts];
  const place = el("div", {});
  const field = el("input", { id: "member", type: "search", autocomplete: "off", spellcheck: "false" });
  field.value = wanted().member;
  field.addEventListener("input", () => {
    change({ member: field.value.trim(), first: 0 }, { replace: true });
    fill(leaderboard, place);
  });
  fill(leaderboard, place);
  return [counts, el("h3", {}, t("batch.board")),
    el("label", { class: "field" }, el("span", {}, t("batch.find")), field), place];
}
