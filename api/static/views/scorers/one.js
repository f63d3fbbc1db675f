// One scorer: where it comes from, what its params mean, and trying it on a workspace.

import { html, useEffect, useRef, useState } from "/static/preact.js";
import { change, go, route, to } from "/static/core/address.js";
import { act } from "/static/core/api.js";
import { seconds, t, word } from "/static/core/language.js";
import { never, useAsked } from "/static/core/live.js";
import { paramsOf, written } from "/static/core/params.js";
import { useTitle } from "/static/core/title.js";
import { Direction, Facts, Fold, Mono, Name, Part, Time } from "/static/parts/basic.js";
import { confirmed } from "/static/parts/dialog.js";
import { Failure, Refusal } from "/static/parts/failure.js";
import { ParamFields, initialOf, takes } from "/static/parts/param-fields.js";
import { Headline, Metrics, Notes } from "/static/parts/result.js";
import { Stacked } from "/static/parts/stacked.js";
import { WorkspaceSearch } from "/static/parts/workspace-search.js";
import { useAct, useWatched } from "/static/views/scorers/watched.js";

const PAUSE = 5000;

function About({ of: each, places }) {
  const names = [...new Set([each.name, ...each.aliases])].filter((name) => name !== each.id);
  const siblings = Object.entries(each.siblings);
  return html`<${Facts} of=${[
    [t("scorers.version"), html`<${Name} text=${each.version} />`],
    [t("scorers.task"), html`<${Name} text=${each.task_type} />`],
    [t("list.metric"), html`<${Name} text=${each.metric} /> <${Direction} isHigher=${each.higher_is_better} />`],
    [t("scorers.alias"), names.length > 0 && html`<${Name} text=${names.join(", ")} />`],
    [t("scorers.origin"), word("origin", each.origin.replaceAll("_", ""))],
    [t("scorers.file"), each.source && html`<${Mono} text=${each.line ? `${each.source}:${each.line}` : each.source} />`],
    ["sha256", each.sha256 && html`<${Mono} text=${each.sha256} />`],
    [t("scorers.siblings"), siblings.length > 0 && html`<ul class="plain">${siblings.map(([name, sha]) => html`<li><${Name} text=${name} /> <${Mono} text=${sha} /></li>`)}</ul>`],
    [t("scorers.since"), html`<${Time} text=${each.loaded_at} />`],
    [t("scorers.watched.title"), places.length > 0 && html`<${Name} text=${places.map((place) => place.path).join(", ")} />`],
  ]} />`;
}

/** Every param: what it is called, what it takes, what it is by default, what it means. */
function ParamTable({ schema }) {
  const all = paramsOf(schema);
  if (!all.length) return html`<p class="muted">${t("param.none")}</p>`;
  const head = [t("scorers.param"), t("scorers.takes"), t("scorers.default"), t("scorers.help")];
  return html`<${Stacked} id="params" label=${t("params.title")} head=${head} rows=${all.map((each) => ({
    key: each.name, cells: [html`<${Mono} text=${each.name} />`, html`<bdi>${takes(each)}</bdi>`, html`<bdi>${initialOf(each)}</bdi>`, html`<bdi>${each.help}</bdi>`] }))} />`;
}

function Trial({ of: each }) {
  const workspace = route.value.query.get("workspace") || "";
  const [values, set] = useState({});
  const [told, tell] = useState(false);
  const [tried, keep] = useState(null);
  const place = useRef(null);
  const { isBusy, problem, doing } = useAct((done) => {
    keep(done);
    requestAnimationFrame(() => place.current?.focus());
  });
  const { params, problems } = written(paramsOf(each.params_schema), values);
  const wrong = Object.fromEntries(Object.entries(problems).filter(([name]) => values[name]?.length));
  const submit = (event) => {
    event.preventDefault();
    tell(true);
    keep(null);
    if (Object.keys(wrong).length) return;
    doing(() => act("/scorers/test", { scorer: each.id, workspace, ...(Object.keys(params).length ? { params } : {}) }));
  };
  const choose = (name) => {
    keep(null);
    change({ workspace: name }, { replace: true });
  };
  const fields = () => html`<${ParamFields} schema=${each.params_schema} values=${values} problems=${told ? wrong : {}} onChange=${set} />`;
  return html`<${Part} title=${t("scorers.try")} id="try"><p class="muted">${t("scorers.try.what")}</p>
    ${!workspace ? html`<${WorkspaceSearch} onPick=${(found) => choose(found.name)} />` : html`<form onSubmit=${submit}>
      <p><strong><${Name} text=${workspace} /></strong>
        <button type="button" class="quiet" id="choose-other" onClick=${() => choose("")}>${t("submit.other")}</button></p>
      <${Fold} summary=${t("submit.params")}>${fields}</>
      <p class="buttons"><button type="submit" id="try-it" disabled=${isBusy}>${t("scorers.try.go")}</button>
        ${isBusy && html`<span class="muted" role="status">${t("scorers.trying")}</span>`}</p></form>`}
    ${problem && html`<div role="alert"><${Failure} error=${problem} /></div>`}
    ${tried && html`<div id="tried" ref=${place} tabindex="-1" class="checked" role="region" aria-label=${t("scorers.tried")}>
      <${Headline} result=${{ ...tried, versioning: { params } }} /><${Metrics} result=${tried} /><${Notes} result=${tried} />
      <${Facts} of=${[
        ...Object.entries(tried.seconds).map(([stage, value]) => [html`<${Name} text=${stage} />`, seconds(value)]),
        [t("scorers.would"), tried.artifacts.join(", ")]]} /></div>`}</>`;
}

function Change({ of: each, onDone }) {
  const { isBusy, problem, said, doing } = useAct(onDone);
  const changed = (one) => `${one.id}: ${word("change", one.change.replaceAll(" ", ""))}`;
  const reload = () => doing(() => act("/scorers/reload", { id: each.id }), (done) => done.changes.map(changed).join(t("value.and")));
  const unload = async () => {
    if (!await confirmed(t("scorers.unload.ask", { path: each.source || each.id }), t("scorers.unload.yes"), t("scorers.no"))) return;
    await doing(() => act(`/scorers/${encodeURIComponent(each.id)}`, undefined, "DELETE").then(() => go(to("scorers"))));
  };
  return html`<p class="buttons"><button type="button" id="reload" disabled=${isBusy} onClick=${reload}>${t("scorers.reload")}</button>
      <button type="button" id="unload" disabled=${isBusy} onClick=${unload}>${t("scorers.unload")}</button></p>
    <p role="status" class="good">${said}</p>
    ${problem && html`<div role="alert"><${Failure} error=${problem} /></div>`}`;
}

export function One({ id }) {
  const { data: each, problem, again } = useAsked(`/scorers/${encodeURIComponent(id)}`, { concerns: never, pause: () => PAUSE });
  const watched = useWatched();
  const title = useRef(null);
  useTitle(id);
  useEffect(() => title.current.focus(), [id]);
  return html`<article id="scorer-one" class="card" aria-labelledby="title">
    <p class="crumb"><a href=${to("scorers")}>${t("scorers.title")}</a></p>
    <h1 id="title" ref=${title} tabindex="-1"><${Name} text=${id} /></h1>
    <${Refusal} of=${problem} />
    ${each && html`<p class="muted" dir="auto">${each.description}</p>
      <p><span class="state ${each.status === "ok" ? "completed" : "failed"}">${word("loading", each.status)}</span></p>
      ${each.status !== "ok" && html`<div class="problem" role="alert"><p>${t("scorers.stale.why")} <${Time} text=${each.failed_at} /></p><p dir="auto">${each.error}</p></div>`}
      <${About} of=${each} places=${watched.all.filter((place) => place.scorers.includes(id))} />
      ${each.origin !== "builtin" && html`<${Change} of=${each} onDone=${again} />`}
      <${Part} title=${t("params.title")}><${ParamTable} schema=${each.params_schema} /></>
      <${Trial} of=${each} />`}
  </article>`;
}
