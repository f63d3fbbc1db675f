// What is shown is asked for again when it has changed: as the stream tells it, or now and then where there is none.

import { effect, signal, useEffect, useRef, useState } from "/static/preact.js";
import { Refused, ask, outside, token } from "/static/core/api.js";
import { isLive, listen } from "/static/core/stream.js";

const ACTIVE_PAUSE = 2000;
const IDLE_PAUSE = 5000;
const AWAY_PAUSE = 3000;
// With a stream, in case that it has told less than there is.
const LIVE_PAUSE = 60000;
// Between two looks that the stream has caused.
const LEAST_PAUSE = 700;

/** What is wrong with reaching the API, for the whole page: the last refusal, or null. */
export const trouble = signal(null);

/** No change that the stream tells of is seen in it. */
export const never = () => false;

/** Ask for something now, and again when it may have changed.
 *
 * @param path What to ask for; null asks for nothing.
 * @param options.concerns Whether a change that is told may be seen in it; by default each one may.
 * @param options.pause Milliseconds between two looks without a stream, from what was answered: null ends them.
 * @returns {data, problem, again}: the last answer for this path, why there is none, and a function that asks at once.
 */
export function useAsked(path, { concerns = () => true, pause = usual } = {}) {
  const [state, set] = useState({ of: null, data: null, problem: null });
  const look = useRef(() => {});
  const asker = token.value;
  const isOut = outside.value;
  // What was asked for before somebody signed out or in is not shown to who is there now.
  const of = `${asker} ${path}`;
  useEffect(() => {
    if (!path || isOut) return undefined;
    const ended = new AbortController();
    const kept = { etag: null };
    let timer = 0;
    // When it is asked for next: not to be said while it is being asked for.
    let at = Infinity;
    let isStale = false;
    let asked = 0;
    let number = 0;
    const later = (wait) => {
      clearTimeout(timer);
      at = Date.now() + wait;
      timer = setTimeout(() => (document.hidden ? waitToBeSeen() : now()), wait);
    };
    const waitToBeSeen = () => document.addEventListener("visibilitychange", now, { once: true, signal: ended.signal });
    const now = async () => {
      clearTimeout(timer);
      const mine = ++number;
      [asked, at, isStale] = [Date.now(), Infinity, false];
      let wait = AWAY_PAUSE;
      try {
        const data = await ask(path, { signal: ended.signal, kept });
        if (mine !== number) return;
        wait = pause(data);
        trouble.value = null;
        set((known) => (known.of === of && known.data === data ? known : { of, data, problem: null }));
      } catch (error) {
        if (ended.signal.aborted || mine !== number || error.status === 401) return;
        // What was there stays to be read while the API is away.
        if (error instanceof Refused && error.status) {
          set({ of, data: null, problem: error });
          // What is refused for now only is asked for again, however often it changes.
          wait = pause({}) ?? (error.status >= 500 || error.status === 429 ? AWAY_PAUSE : null);
        } else trouble.value = error;
      }
      // What the stream tells nothing of is looked at as often as without it.
      const isTold = isLive.value && !trouble.value && concerns !== never;
      if (isStale) later(soon());
      else if (wait !== null) later(isTold ? Math.max(wait, LIVE_PAUSE) : wait);
    };
    const soon = () => Math.max(0, asked + LEAST_PAUSE - Date.now());
    const stop = listen((event) => {
      if (event.type !== "reset" && !concerns(event)) return;
      // What is being asked for now may be older than what was told.
      isStale = at === Infinity;
      if (!isStale && at > Date.now() + soon()) later(soon());
    });
    look.current = now;
    now();
    return () => {
      stop();
      ended.abort();
      clearTimeout(timer);
    };
  }, [path, asker, isOut]);
  const isOwn = state.of === of && !isOut;
  return { data: isOwn ? state.data : null, problem: isOwn ? state.problem : null, again: () => look.current() };
}

const ACTIVE = ["queued", "running", "cancelling"];

function usual(data) {
  const tasks = Array.isArray(data?.tasks) ? data.tasks : [data?.task || data];
  return tasks.some((task) => ACTIVE.includes(task?.state || task?.status)) ? ACTIVE_PAUSE : IDLE_PAUSE;
}

/** The answer, or the one before while another is asked for: what is there stays until then, unless it is refused. */
export function useLast(data, problem) {
  const last = useRef(null);
  if (data) last.current = data;
  return data || (problem ? null : last.current);
}

/** Once and no more. */
export const once = () => null;

// Whoever signs out has no trouble any more.
effect(() => { if (outside.value) trouble.value = null; });
