// A field that narrows a list while one types. What is looked for stands in the address.

import { html, useEffect, useRef } from "/static/preact.js";
import { change } from "/static/core/address.js";
import { useTyped } from "/static/core/typing.js";

/** A search field; `also` says what else of the address is over with another search, such as the page. */
export function SearchField({ id, name, label, value, hint, also = {} }) {
  const field = useRef(null);
  // Going back changes what is looked for; what is being typed stays.
  useEffect(() => {
    if (document.activeElement !== field.current) field.current.value = value;
  }, [value]);
  const [typed] = useTyped(() => change({ [name]: field.current.value.trim(), ...also }, { replace: true }));
  return html`<label class="field grow"><span>${label}</span>
    <input id=${id} ref=${field} type="search" defaultValue=${value} autocomplete="off" spellcheck=${false} maxlength="200" placeholder=${hint} onInput=${typed} /></label>`;
}
