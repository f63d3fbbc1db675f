// What has changed is asked for again: a view says what it shows, and is told when to look.

import { effect, signal, useEffect, useRef, useState } from "/static/preact.js";
import { Refused, ask, outside, token } from "/static/core/api.js";

const ACTIVE_PAUSE = 2000;
const IDLE_PAUSE = 5000;
const AWAY_PAUSE = 3000;

/** What is wrong with reaching the API, for the whole page: the last refusal, or null. */
export const trouble = signal(null);

/** Ask for something now, and again while it may change.
 *
 * @param path What to ask for; null asks for nothing.
 * @param options.pause Milliseconds between two looks, from what was answered: null ends them. By default a task's.
 * @returns {data, problem, again}: the last answer for this path, why there is none, and a function that asks at once.
 */
export function useAsked(path, { pause = usual } = {}) {
  const [state, set] = useState({ of: null, data: null, problem: null });
  const look = useRef(() => {});
  const asker = token.value;
  const isOut = outside.value;
  // What was asked for before somebody signed out or in is not shown to who is there now.
  const of = `${asker} ${path}`;
  useEffect(() => {
    if (!path || isOut) return undefined;
    const ended = new AbortController();
    let timer = 0;
    let asked = 0;
    let kept = null;
    const now = async () => {
      clearTimeout(timer);
      const number = ++asked;
      let wait = AWAY_PAUSE;
      try {
        const data = await ask(path, { signal: ended.signal });
        if (number !== asked) return;
        wait = pause(data);
        trouble.value = null;
        const text = JSON.stringify(data);
        // The same again draws nothing anew.
        if (text !== kept) set({ of, data, problem: null });
        kept = text;
      } catch (error) {
        if (ended.signal.aborted || number !== asked) return;
        if (error.status === 401) return;
        // What was there stays to be read while the API is away.
        if (error instanceof Refused && error.status) set({ of, data: null, problem: error });
        else trouble.value = error;
      }
      if (wait !== null) timer = setTimeout(() => (document.hidden ? later() : now()), wait);
    };
    const later = () => document.addEventListener("visibilitychange", now, { once: true, signal: ended.signal });
    look.current = now;
    now();
    return () => {
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

/** Once and no more. */
export const once = () => null;

// Whoever signs out has no trouble any more.
effect(() => { if (outside.value) trouble.value = null; });
