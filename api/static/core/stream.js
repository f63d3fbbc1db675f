// What happens to tasks, as it happens: one stream for the whole page. Without it the views ask now and then.

import { effect, signal } from "/static/preact.js";
import { fetchStream, outside, token } from "/static/core/api.js";

const FIRST_PAUSE = 1000;
const LONGEST_PAUSE = 15000;

/** Whether changes are told by themselves. */
export const isLive = signal(false);

const listeners = new Set();
let last = "";

/** Be told of each change: {type: "task" | "gone", id}, or {type: "reset"} where more has changed than is told. */
export function listen(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

const tell = (event) => { for (const listener of [...listeners]) listener(event); };

// Told of what the server has sent: lines of "event", "data" and "id" (WHATWG HTML, 9.2.6); other lines mean nothing here.
function take(block) {
  const fields = {};
  for (const line of block.split("\n")) {
    const [, key, value] = /^(event|data|id): ?(.*)$/.exec(line) || [];
    if (key) fields[key] = value;
  }
  if (fields.id) last = fields.id;
  if (!fields.event) return;
  const data = fields.data ? JSON.parse(fields.data) : {};
  if (fields.event === "hello") {
    isLive.value = true;
    if (!data.resumed) tell({ type: "reset" });
  } else if (fields.event === "task" || fields.event === "gone") tell({ type: fields.event, id: data.id });
  else if (fields.event === "reset") tell({ type: "reset" });
}

async function read(signal_) {
  const body = await fetchStream("/events", { signal: signal_, headers: last ? { "Last-Event-ID": last } : {} });
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (text + value).split("\n\n");
    text = blocks.pop();
    blocks.forEach(take);
  }
}

async function keepReading(signal_) {
  let pause = FIRST_PAUSE;
  while (!signal_.aborted) {
    const began = Date.now();
    try {
      await read(signal_);
    } catch (error) {
      // The views ask by themselves, and say what is wrong. Who may not listen now may when somebody has signed in.
      if (error.status === 401) return;
    }
    if (signal_.aborted) return;
    isLive.value = false;
    // One that has lived was ended by the server or on the way: it is asked for again at once.
    pause = Date.now() - began > LONGEST_PAUSE ? FIRST_PAUSE : Math.min(pause * 2, LONGEST_PAUSE);
    await new Promise((go) => setTimeout(go, pause));
  }
}

/** Listen from now on, for whoever is signed in; a page that nobody sees does not. */
export function startListening() {
  const isSeen = signal(!document.hidden);
  document.addEventListener("visibilitychange", () => { isSeen.value = !document.hidden; });
  let asker = null;
  effect(() => {
    if (asker !== token.value) last = ""; // what was told to another says nothing
    asker = token.value;
    if (outside.value || !isSeen.value) return undefined;
    const ended = new AbortController();
    keepReading(ended.signal);
    return () => {
      ended.abort();
      isLive.value = false;
    };
  });
}
