// The scorers: which there are, from which file, whether they load; and one of them. Who may change them is the API's to say.

import { html, useEffect, useRef, useState } from "/static/preact.js";
import { to } from "/static/core/address.js";
import { act } from "/static/core/api.js";
import { t, word } from "/static/core/language.js";
import { useAsked } from "/static/core/live.js";
import { useTitle } from "/static/core/title.js";
import { Direction, Name, Small, Time } from "/static/parts/basic.js";
import { Failure, Refusal } from "/static/parts/failure.js";
import { Text } from "/static/parts/form-fields.js";
import { Stacked } from "/static/parts/stacked.js";
import { One } from "/static/views/scorers/one.js";
import { Watched, useAct, useWatched } from "/static/views/scorers/watched.js";

const PAUSE = 5000;

/** What the list says of one, in the order of its columns. */
const cellsOf = (each, isWatched) => [
  html`<a href=${to("scorers", each.id)}><${Name} text=${each.id} /></a><${Small}><${Name} text=${each.description} /></>`,
  html`<${Name} text=${each.metric} /> <${Direction} isHigher=${each.higher_is_better} />`,
  html`<${Name} text=${each.version} />`,
  html`<span title=${each.source}>${word("origin", each.origin.replaceAll("_", "."))}</span>${each.origin !== "builtin" && each.source && html`<${Small}><${Name} text=${each.source} /></>`}`,
  html`<span class="state ${each.status === "ok" ? "completed" : "failed"}">${word("loading", each.status)}</span>${isWatched && html`<${Small}>${t("scorers.watched")}</>`}`,
];

/** What does not load, and why. */
function Broken({ errors }) {
  return errors.length > 0 && html`<section class="part"><h2 id="broken">${t("scorers.broken")}</h2>
    ${errors.map((each) => html`<div key=${each.source}><p><strong><${Name} text=${each.source} /></strong> <span class="muted"><${Time} text=${each.failed_at} /></span></p>
      ${each.stale_ids.length > 0 && html`<p class="muted">${t("scorers.stale.of", { names: each.stale_ids.join(", ") })}</p>`}
      <${Failure} error=${each.error} /></div>`)}</section>`;
}

function Load({ onDone }) {
  const [path, setPath] = useState("");
  const [isFollowed, follow] = useState(true);
  const [isMissing, setMissing] = useState(false);
  const { isBusy, problem, said, doing } = useAct(onDone);
  const checked = (work) => {
    setMissing(!path.trim());
    if (path.trim()) work(path.trim());
  };
  const load = (event) => {
    event.preventDefault();
    checked((file) => doing(() => act("/scorers/load", { path: file, watch: isFollowed }), (done) => t("scorers.loaded", { names: done.scorers.map((each) => each.id).join(", ") })));
  };
  const watch = () => checked((place) => doing(() => act("/scorers/watch", { path: place }), (done) => t("scorers.watching", { path: done.path, names: done.scorers.join(", ") || "–" })));
  const reload = () => doing(() => act("/scorers/reload", {}), (done) => t("scorers.reloaded", { n: done.changes.filter((each) => each.change !== "unchanged").length, errors: done.errors.length }));
  return html`<section class="part"><h2 id="load">${t("scorers.change")}</h2><p class="muted">${t("scorers.change.who")}</p>
    <form id="load-form" onSubmit=${load}>
      <${Text} id="path" label=${t("scorers.path")} value=${path} maxlength="4096" placeholder="/srv/scorers/my_scorer.py" hint=${t("scorers.path.hint")}
        problem=${isMissing && t("scorers.path.missing")} onInput=${setPath} />
      <label class="check"><input type="checkbox" id="follow" checked=${isFollowed} onChange=${(event) => follow(event.target.checked)} /> ${t("scorers.follow")}</label>
      <p class="buttons"><button type="submit" id="load-file" disabled=${isBusy}>${t("scorers.load")}</button>
        <button type="button" id="watch-path" disabled=${isBusy} onClick=${watch}>${t("scorers.watch")}</button>
        <button type="button" id="reload-all" disabled=${isBusy} onClick=${reload}>${t("scorers.reload.all")}</button></p></form>
    <p role="status" class="good">${said}</p>
    ${problem && html`<div role="alert"><${Failure} error=${problem} /></div>`}</section>`;
}

function All() {
  const { data, problem, again } = useAsked("/scorers", { pause: () => PAUSE });
  const watched = useWatched();
  const isWatched = (each) => watched.all.some((place) => place.scorers.includes(each.id));
  const changed = () => {
    again();
    watched.again();
  };
  useTitle(t("scorers.title"));
  const title = useRef(null);
  useEffect(() => title.current.focus(), []);
  const head = [t("scorers.scorer"), t("list.metric"), t("scorers.version"), t("scorers.origin"), t("scorers.state")];
  return html`<article id="scorers" class="card wide" aria-labelledby="title">
    <h1 id="title" ref=${title} tabindex="-1">${t("scorers.title")}</h1>
    <${Refusal} of=${problem} />
    ${data && html`<${Stacked} id="all" label=${t("scorers.title")} head=${head} rows=${data.scorers.map((each) => ({ key: each.id, cells: cellsOf(each, isWatched(each)) }))} />
    <${Broken} errors=${data.errors} />`}
    <${Watched} of=${watched} onDone=${changed} />
    <${Load} onDone=${changed} />
  </article>`;
}

export default function Scorers({ id }) {
  return id ? html`<${One} id=${id} />` : html`<${All} />`;
}
