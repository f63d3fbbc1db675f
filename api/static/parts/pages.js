// Going through a list that the API gives a page at a time. The cursor stands in the address, and where one came from in the history.

import { html } from "/static/preact.js";
import { change, trail } from "/static/core/address.js";
import { t } from "/static/core/language.js";

/** First, previous and next page; nothing where there is one page only. `onTurn` is told after each step. */
export function Pages({ next, cursor, onTurn, id = "pages" }) {
  if (!cursor && !next) return null;
  const turn = (to, led) => {
    change({ cursor: to }, { led });
    onTurn();
  };
  return html`<nav id=${id} class="buttons" aria-label=${t("list.pages")}>
    <button type="button" id="first" disabled=${!cursor} onClick=${() => turn("", [])}>${t("list.first")}</button>
    <button type="button" id="previous" disabled=${!cursor} onClick=${() => turn(trail().at(-1) || "", trail().slice(0, -1))}>${t("list.previous")}</button>
    <button type="button" id="next" disabled=${!next} onClick=${() => turn(next, [...trail(), cursor])}>${t("list.next")}</button>
  </nav>`;
}
