// Finding a workspace by a part of its name.

import { html, useState } from "/static/preact.js";
import { encoded } from "/static/core/address.js";
import { t } from "/static/core/language.js";
import { never, once, useAsked, useLast } from "/static/core/live.js";
import { useTyped } from "/static/core/typing.js";
import { Muted, Name } from "/static/parts/basic.js";
import { Refusal } from "/static/parts/failure.js";

const SHOWN = 12;

/** A field, and what fits it; `onPick` takes a workspace as GET /workspaces lists it. */
export function WorkspaceSearch({ onPick }) {
  const [wanted, want] = useState("");
  const query = new URLSearchParams({ limit: String(SHOWN), ...(wanted ? { search: wanted } : {}) });
  const { data, problem } = useAsked(`/workspaces?${query}`, { concerns: never, pause: once });
  const page = useLast(data, problem);
  const [typed] = useTyped((text) => want(text.trim()));
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
export const workspacePath = (name) => `/workspaces/${encoded(name)}`;
