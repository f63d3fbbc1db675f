// A file that is being sent: how far it is, that its connection broke, and trying again with the same file.

import { html, useEffect, useRef, useState } from "/static/preact.js";
import { newKey, sendForm } from "/static/core/upload.js";
import { bytes, percent, seconds, t } from "/static/core/language.js";
import { Failure } from "/static/parts/failure.js";

// Milliseconds before each further try. Longer breaks are for a person to end.
const WAITS = [2000, 5000, 10000, 20000, 30000];

const stay = (event) => event.preventDefault();

/** One file at a time: {state, start, again, stop}.
 *
 * `start(path, form, onDone)` sends it. The state is null where nothing is sent, else its `step` is sending, arrived, broken or refused.
 */
export function useSending() {
  const [state, set] = useState(null);
  const now = useRef({ ended: new AbortController(), timer: 0 });
  const isUnderWay = Boolean(state) && state.step !== "refused";
  useEffect(() => () => halt(), []);
  useEffect(() => {
    if (!isUnderWay) return undefined;
    addEventListener("beforeunload", stay);
    return () => removeEventListener("beforeunload", stay);
  }, [isUnderWay]);

  function halt() {
    clearTimeout(now.current.timer);
    now.current.ended.abort();
  }

  async function tried(job, tries) {
    halt();
    const ended = new AbortController();
    now.current = { ended, timer: 0, job, tries };
    set({ step: "sending", done: 0, total: 0 });
    const onProgress = (done, total) => { if (!ended.signal.aborted) set({ step: done < total ? "sending" : "arrived", done, total }); };
    try {
      const data = await sendForm(job.path, job.form, { headers: { "Idempotency-Key": job.key }, onProgress, signal: ended.signal });
      if (ended.signal.aborted) return;
      set(null);
      job.onDone(data);
    } catch (problem) {
      if (ended.signal.aborted) return;
      if (problem.status !== 0) {
        // Of an upload whose answer was lost, the name is now its own.
        set({ step: "refused", problem, isMaybeThere: tries > 0 && problem.code === "CONFLICT" });
        return;
      }
      const wait = WAITS[tries] ?? null;
      set({ step: "broken", wait });
      if (wait !== null) now.current.timer = setTimeout(() => tried(job, tries + 1), wait);
    }
  }

  return {
    state,
    isUnderWay,
    start: (path, form, onDone) => tried({ path, form, onDone, key: newKey() }, 0),
    again: () => tried(now.current.job, now.current.tries + 1),
    stop: () => {
      halt();
      set(null);
    },
  };
}

function saidOf({ step, wait, done, total }, part) {
  if (step === "arrived") return t("upload.arrived");
  if (step === "sending") return t("upload.sending", { part: percent(Math.round(part * 100) / 100), done: bytes(done), total: bytes(total) });
  return wait === null ? t("upload.broken") : t("upload.again.soon", { seconds: seconds(wait / 1000) });
}

/** How it goes. */
export function Sending({ of: { state, again, stop } }) {
  if (!state) return null;
  if (state.step === "refused") {
    return html`${state.isMaybeThere && html`<p class="notice" role="alert">${t("upload.maybe")}</p>`}<${Failure} error=${state.problem} />`;
  }
  const part = state.total ? state.done / state.total : 0;
  const said = saidOf(state, part);
  return html`<div class="sending" id="sending">
    ${state.step === "broken" ? html`<p class="notice" role="alert">${said}</p>`
      : html`<progress value=${state.step === "arrived" ? null : part} max="1" aria-label=${said} /><p class="muted" id="sending-said">${said}</p>`}
    <p class="buttons">${state.step === "broken" && html`<button type="button" id="send-again" onClick=${again}>${t("upload.again")}</button>`}
      <button type="button" id="send-stop" onClick=${stop}>${t("upload.stop")}</button></p></div>`;
}
