// Finding a workspace by a part of its name.

import { html, useRef, useState } from "/static/preact.js";
import { t } from "/static/core/language.js";
import { never, once, useAsked } from "/static/core/live.js";
import { Muted, Name } from "/static/parts/basic.js";
import { Refusal } from "/static/parts/failure.js";

const SHOWN = 12;
// Milliseconds after the last letter.
const TYPING = 250;

/** A field, and what fits it; `onPick` takes a workspace as GET /workspaces lists it. */
export function WorkspaceSearch({ onPick }) {
  const [wanted, want] = useState("");
  const timer = useRef(0);
  const query = new URLSearchParams({ limit: String(SHOWN), ...(wanted ? { search: wanted } : {}) });
  const { data, problem } = useAsked(`/workspaces?${query}`, { concerns: never, pause: once });
  const last = useRef(null);
  if (data) last.current = data;
  const page = data || (problem ? null : last.current);
  const typed = (text) => {
    clearTimeout(timer.current);
    timer.current = setTimeout(() => want(text.trim()), TYPING);
  };
  return html`<div class="search">
    <label class="field"><span>${t("submit.find")}</span>
      <input id="find-workspace" type="search" autocomplete="off" spellcheck=${false} maxlength="200" onInput=${(event) => typed(event.target.value)} /></label>
    <${Refusal} of=${problem} />
    <p class="unseen" role="status">${page && t("submit.find.count", { n: page.workspaces.length })}</p>
    ${page && (page.workspaces.length ? html`<ul class="picks" id="found">${page.workspaces.map((each) => html`<li key=${each.name}>
      <button type="button" class="pick-one" onClick=${() => onPick(each)}><${Name} text=${each.name} />
        ${each.scorer && html` <${Muted}><${Name} text=${each.scorer} /></>`}</button></li>`)}</ul>`
      : html`<p class="muted">${wanted ? t("submit.find.none", { name: wanted }) : t("submit.find.nothing")}</p>`)}
    ${page?.next_cursor && html`<p class="muted">${t("submit.find.more")}</p>`}
  </div>`;
}

/** A workspace's address at the API. */
export const workspacePath = (name) => `/workspaces/${name.split("/").map(encodeURIComponent).join("/")}`;
