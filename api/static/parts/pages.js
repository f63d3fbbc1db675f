// Turning the pages of a list that hands out cursors. The cursor stands in the address, and where one came from in the history.

import { html } from "/static/preact.js";
import { change, trail } from "/static/core/address.js";
import { t } from "/static/core/language.js";

/** First, previous, next; nothing where all stands on one page.
 *
 * @param next The cursor of the next page, or null.
 * @param cursor The cursor of this one, or an empty text.
 * @param onTurn Called when somebody turns: a good time to move the focus.
 * @param name Under which the cursor stands in the address; `id` is that of the buttons' place.
 */
export function Pages({ next, cursor, onTurn = () => {}, name = "cursor", id = "pages" }) {
  if (!cursor && !next) return null;
  const turn = (to, led) => {
    change({ [name]: to }, { led });
    onTurn();
  };
  return html`<nav id=${id} class="buttons" aria-label=${t("list.pages")}>
    <button type="button" id="first" disabled=${!cursor} onClick=${() => turn("", [])}>${t("list.first")}</button>
    <button type="button" id="previous" disabled=${!cursor} onClick=${() => turn(trail().at(-1) || "", trail().slice(0, -1))}>${t("list.previous")}</button>
    <button type="button" id="next" disabled=${!next} onClick=${() => turn(next, [...trail(), cursor])}>${t("list.next")}</button>
  </nav>`;
}
