// What is said of a workspace wherever it is shown.

import { html } from "/static/preact.js";
import { encoded } from "/static/core/address.js";
import { meaning, t } from "/static/core/language.js";
import { Chip, Figure, Name, Small, Span } from "/static/parts/basic.js";

/** Where the API tells of a workspace, whose name is a path. */
export const addressOf = (name, rest = "") => `/workspaces/${encoded(name)}${rest}`;

/** What its last Result says in a word, and its rank; nothing where there is none. */
export function Verdict({ of: { error, pass, rank } }) {
  if (error) return html`<span class="state failed">${meaning(error)?.title || html`<${Name} text=${error} />`}</span>`;
  return html`${typeof pass === "boolean" && html`<${Chip} state=${pass ? "passed" : "unpassed"} />`} ${rank && html`<span class="state">${t("score.rank", { rank })}</span>`}`;
}

/** A score with its interval; that the board alone tells of it, where that is so. */
export function Score({ of }) {
  if (of.board_only && of.score === null) return html`<span class="muted">${t("board.only")}</span>`;
  if (of.score === null) return null;
  return html`<strong><${Figure} value=${of.score} /></strong><${Small}><${Span} of=${of} /></>`;
}

/** The benchmark and team whose submission a workspace is by its name, or null. */
export function submissionOf(name) {
  const found = /^(.+)\/submissions\/([a-z0-9][a-z0-9_-]*)\/[0-9]+$/.exec(name);
  return found && { benchmark: found[1], team: found[2] };
}
