// Signing in, in plain words.

import { html, useEffect, useRef, useState } from "/static/preact.js";
import { keepToken } from "/static/core/api.js";
import { t } from "/static/core/language.js";
import { useTitle } from "/static/core/title.js";

/** A form for a token; `wasRefused` says that the last one was not known. */
export function SignIn({ wasRefused }) {
  const field = useRef(null);
  const [isEmpty, setEmpty] = useState(false);
  useTitle(t("token.title"));
  useEffect(() => field.current.focus(), []);
  const problem = isEmpty ? t("token.empty") : wasRefused ? t("token.wrong") : "";
  const submit = (event) => {
    event.preventDefault();
    const value = field.current.value.trim();
    setEmpty(!value);
    if (value) keepToken(value);
    else field.current.focus();
  };
  return html`<form id="sign-in" class="card narrow" aria-labelledby="sign-in-title" onSubmit=${submit}>
    <h2 id="sign-in-title">${t("token.title")}</h2>
    <p>${t("token.outside")}</p>
    <p>${t("token.what")}</p>
    <details><summary>${t("token.how")}</summary><p>${t("token.where")}</p></details>
    ${problem && html`<p id="token-problem" class="problem" role="alert">${problem}</p>`}
    <label class="field"><span>${t("token.field")}</span>
      <input id="token" ref=${field} type="password" autocomplete="off" spellcheck=${false} aria-describedby=${problem ? "token-problem" : null} /></label>
    <p class="buttons"><button type="submit">${t("token.use")}</button></p>
    <p class="muted">${t("token.kept")}</p>
  </form>`;
}
