// What a batch says of its members: how many there are of each kind, who is best, and one of them by a part of its name.

import { html } from "/static/preact.js";
import { to } from "/static/core/address.js";
import { count, meaning, seconds, t, word } from "/static/core/language.js";
import { Facts, Name, Part } from "/static/parts/basic.js";
import { Board } from "/static/parts/board.js";

const COUNTED = ["total", "done", "completed", "failed", "cancelled", "duplicates"];
// As the API's own CSV of a batch has them.
const KEYS = ["place", "workspace", "state", "metric", "score", "low", "high", "pass", "rank", "seconds", "error"];

function outcomeOf(row) {
  if (row.error) return meaning(row.error)?.title || row.error;
  return word("state", row.state !== "completed" || typeof row.pass !== "boolean" ? row.state : row.pass ? "passed" : "unpassed");
}

const COLUMNS = [{ word: "batch.outcome", cell: outcomeOf }];

/** How many members a batch has, and what became of them. */
export function Members({ batch: { summary, leaderboard } }) {
  return html`<${Facts} of=${[
    ...COUNTED.filter((key) => typeof summary[key] === "number" && (summary[key] || key === "total" || key === "done"))
      .map((key) => [t(`batch.${key}`), count(summary[key])]),
    [t("batch.passed"), leaderboard.some((row) => typeof row.pass === "boolean") && count(leaderboard.filter((row) => row.pass === true).length)],
    [t("task.ran"), seconds(summary.seconds)],
  ]} />`;
}

/** Who has which place. */
export function Places({ batch: { leaderboard } }) {
  const label = t("batch.board");
  return leaderboard.length > 0 && html`<${Part} title=${label}>
    <${Board} rows=${leaderboard} label=${label} find=${t("batch.find")} nobody=${(name) => t("batch.nobody", { name })}
      name=${(row) => row.workspace} whoWord=${t("batch.member")}
      who=${(row) => html`<a href=${to("workspace", row.workspace)}><${Name} text=${row.workspace} /></a>`}
      columns=${COLUMNS} file="leaderboard.csv" keys=${KEYS} /></>`;
}
