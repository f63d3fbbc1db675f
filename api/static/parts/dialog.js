// A question that is answered before anything happens.

import { html, signal, useEffect, useRef } from "/static/preact.js";

const asked = signal(null);

/** Ask; true where the answer is yes. */
export const confirmed = (text, yes, no) => new Promise((resolve) => { asked.value = { text, yes, no, resolve }; });

/** The place of the question, once in the page. */
export function Question() {
  const dialog = useRef(null);
  const no = useRef(null);
  const now = asked.value;
  useEffect(() => {
    if (!now) return;
    dialog.current.showModal();
    no.current.focus();
  }, [now]);
  const answer = (value) => {
    asked.value = null;
    now.resolve(value);
  };
  if (!now) return null;
  return html`<dialog ref=${dialog} aria-labelledby="question" onCancel=${() => answer(false)}>
    <p id="question">${now.text}</p>
    <p class="buttons"><button type="button" id="confirm-yes" onClick=${() => answer(true)}>${now.yes}</button>
      <button type="button" id="confirm-no" ref=${no} onClick=${() => answer(false)}>${now.no}</button></p>
  </dialog>`;
}
