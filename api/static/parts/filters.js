// What the list of records is narrowed to. All of it stands in the address.

import { html, useEffect, useRef, useState } from "/static/preact.js";
import { change, route, to } from "/static/core/address.js";
import { keep, kept } from "/static/core/kept.js";
import { t, word } from "/static/core/language.js";
import { useTyped } from "/static/core/typing.js";

export const STATES = ["queued,running,cancelling", "queued", "running", "cancelling", "completed", "failed", "cancelled"];
export const ACTIONS = ["pipeline", "run", "score", "validate", "batch", "rag-score"];

/** One of some values, as [value, word] pairs, or all of them. */
export function Filter({ id, label, value, of, onChange }) {
  return html`<label class="field"><span>${label}</span><select id=${id} value=${value} onChange=${(event) => onChange(event.target.value)}>
    <option value="">${t("filter.all")}</option>${of.map(([key, said]) => html`<option value=${key}>${said}</option>`)}</select></label>`;
}

function Saved({ query }) {
  const [all, set] = useState(() => kept("filters", []));
  const address = route.value.query.toString();
  const known = all.find((each) => each.query === address);
  const save = (next) => {
    keep("filters", next);
    set(next);
  };
  const name = [query.get("q"), query.get("state") && stateWord(query.get("state")), query.get("action") && word("action", query.get("action")), query.get("scorer"), query.get("sort")].filter(Boolean).join(" · ");
  return html`<details class="menu"><summary>${t("filter.saved")}</summary><div>
    ${all.length === 0 && html`<p class="muted">${t("filter.saved.none")}</p>`}
    <ul class="plain">${all.map((each) => html`<li><a href=${`${to("records")}?${each.query}`}><bdi>${each.name}</bdi></a>
      <button type="button" class="quiet" aria-label=${t("filter.forget", { name: each.name })} onClick=${() => save(all.filter((other) => other !== each))}>×</button></li>`)}</ul>
    ${address && !known && name && html`<button type="button" onClick=${() => save([...all, { name, query: address }])}>${t("filter.save")}</button>`}
  </div></details>`;
}

/** Whether members of batches are listed among the rest: as somebody says, else where something is looked for. */
export const isWithMembers = (query) => (query.has("members") ? query.get("members") === "true" : Boolean(query.get("q")));

const stateWord = (state) => (state === STATES[0] ? t("filter.active") : word("state", state));

export function Filters({ query }) {
  const field = useRef(null);
  // Whether nothing has been typed since the field was left: only the first letter is a step to go back to.
  const isFresh = useRef(true);
  const q = query.get("q") || "";
  // Going back changes what is looked for; what is being typed stays.
  useEffect(() => {
    if (document.activeElement !== field.current) field.current.value = q;
  }, [q]);
  const set = (values, options) => change({ ...values, cursor: "" }, options);
  const search = () => {
    stop();
    set({ q: field.current.value.trim() }, { replace: !isFresh.current });
    isFresh.current = false;
  };
  const [typed, stop] = useTyped(search);
  const left = () => {
    search();
    isFresh.current = true;
  };
  const submit = (event) => {
    event.preventDefault();
    search();
  };
  const verdict = query.get("pass") || "";
  // What goes without saying does not stand in the address.
  const setMembers = (isOn) => set({ members: isOn === Boolean(q) ? "" : String(isOn) });
  return html`<form id="filters" role="search" aria-label=${t("filter.label")} onSubmit=${submit}>
    <label class="field grow"><span>${t("filter.name")}</span>
      <input id="q" ref=${field} type="search" defaultValue=${q} autocomplete="off" spellcheck=${false} maxlength="200" placeholder=${t("filter.name.hint")} onInput=${typed} onChange=${left} /></label>
    <details class="narrowing" open=${!matchMedia("(max-width: 640px)").matches}><summary>${t("filter.label")}</summary><div class="choices">
    <${Filter} id="state" label=${t("filter.state")} value=${query.get("state") || ""} of=${STATES.map((state) => [state, stateWord(state)])} onChange=${(state) => set({ state })} />
    <${Filter} id="pass" label=${t("filter.pass")} value=${verdict} of=${[["true", t("state.passed")], ["false", t("state.unpassed")]]} onChange=${(pass) => set({ pass })} />
    <${Filter} id="action" label=${t("filter.action")} value=${query.get("action") || ""} of=${ACTIONS.map((action) => [action, word("action", action)])} onChange=${(action) => set({ action })} />
    <label class="check"><input type="checkbox" id="with-members" checked=${isWithMembers(query)} onChange=${(event) => setMembers(event.target.checked)} /> ${t("filter.members")}</label>
    ${["scorer", "benchmark", "team"].filter((key) => query.get(key)).map((key) => html`<a class="tag" href=${to("records", "", { ...Object.fromEntries(query), [key]: "", cursor: "" })}>
      ${t(`list.${key}`)}: <bdi>${query.getAll(key).join(", ")}</bdi> ×</a>`)}
    <${Saved} query=${query} /></div></details>
  </form>`;
}
