// Files and folders whose scorers are loaded anew when they change, and doing something to what is loaded.

import { html, useState } from "/static/preact.js";
import { to } from "/static/core/address.js";
import { act } from "/static/core/api.js";
import { t, word } from "/static/core/language.js";
import { useAsked } from "/static/core/live.js";
import { Name } from "/static/parts/basic.js";
import { confirmed } from "/static/parts/dialog.js";
import { Failure } from "/static/parts/failure.js";

const PAUSE = 10000;

/** What is followed: {all, isTold, problem, again}. Whoever may not know is told nothing of it. */
export function useWatched() {
  const { data, problem, again } = useAsked("/scorers/watch", { pause: () => PAUSE });
  return { all: data?.watched || [], isTold: Boolean(data), problem, again };
}

/** Something that is done to the installation, and may be refused: {isBusy, problem, said, doing}. */
export function useAct(onDone) {
  const [state, set] = useState({ isBusy: false, problem: null, said: "" });
  const doing = async (work, tell = () => "") => {
    set({ isBusy: true, problem: null, said: "" });
    try {
      const done = await work();
      set({ isBusy: false, problem: null, said: tell(done) });
      onDone(done);
    } catch (problem) {
      set({ isBusy: false, problem, said: "" });
    }
  };
  return { ...state, doing };
}

/** The files and folders that are followed. */
export function Watched({ of: { all, isTold, problem }, onDone }) {
  const { isBusy, problem: refused, said, doing } = useAct(onDone);
  const unwatch = async (place) => {
    if (!await confirmed(t("scorers.unwatch.ask", { path: place.path }), t("scorers.unwatch.yes"), t("scorers.no"))) return;
    await doing(() => act("/scorers/watch", { id: place.id }, "DELETE"), () => t("scorers.unwatched", { path: place.path }));
  };
  return html`<section class="part" id="watched"><h2 id="watched-title">${t("scorers.watched.title")}</h2>
    ${problem && html`<p class="muted">${problem.status === 403 ? t("scorers.watched.who") : problem.message}</p>`}
    ${isTold && !all.length && html`<p class="muted">${t("scorers.watched.none")}</p>`}
    ${all.length > 0 && html`<ul class="rows">${all.map((place) => html`<li key=${place.id}>
      <div><strong><${Name} text=${place.path} /></strong> <span class="muted">${word("followed", place.origin)}</span>
        ${!place.is_there && html` <span class="state failed">${t("scorers.gone")}</span>`}
        <div class="muted">${place.scorers.map((id, index) => html`${index ? t("value.and") : null}<a href=${to("scorers", id)}><${Name} text=${id} /></a>`)}
          ${place.errors.length > 0 && html` <span class="wrong">${t("scorers.wrong", { n: place.errors.length })}</span>`}</div></div>
      <button type="button" class="unwatch" disabled=${isBusy} onClick=${() => unwatch(place)} aria-label=${t("scorers.unwatch.label", { path: place.path })}>${t("scorers.unwatch")}</button></li>`)}</ul>`}
    <p role="status" class="good">${said}</p>
    ${refused && html`<div role="alert"><${Failure} error=${refused} /></div>`}</section>`;
}
