// A field that narrows a list while one types. What is looked for stands in the address.

import { html, useEffect, useRef } from "/static/preact.js";
import { change } from "/static/core/address.js";

// Milliseconds after the last letter.
const TYPING = 250;

/** A search field; `also` says what else of the address is over with another search, such as the page. */
export function SearchField({ id, name, label, value, hint, also = {} }) {
  const field = useRef(null);
  const timer = useRef(0);
  // Going back changes what is looked for; what is being typed stays.
  useEffect(() => {
    if (document.activeElement !== field.current) field.current.value = value;
  }, [value]);
  useEffect(() => () => clearTimeout(timer.current), []);
  const typed = () => {
    clearTimeout(timer.current);
    timer.current = setTimeout(() => change({ [name]: field.current.value.trim(), ...also }, { replace: true }), TYPING);
  };
  return html`<label class="field grow"><span>${label}</span>
    <input id=${id} ref=${field} type="search" defaultValue=${value} autocomplete="off" spellcheck=${false} maxlength="200" placeholder=${hint} onInput=${typed} /></label>`;
}
