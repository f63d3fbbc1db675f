// Asking the API, with the token of this tab where there is one.

import { signal } from "/static/preact.js";
import { t } from "/static/core/language.js";

const KEY = "autoscorer-token";

/** An answer that is an error of the catalogue; status 0 where nothing answered. */
export class Refused extends Error {
  constructor(status, error) {
    super(error.message);
    this.status = status;
    this.code = error.code;
    this.stage = error.stage;
    this.details = error.details;
  }
}

/** The token that this tab asks with, or an empty text. */
export const token = signal(sessionStorage.getItem(KEY) || "");

/** Why nothing is shown: "asked" where a token is needed, "wrong" where the one that was given is not known; else empty. */
export const outside = signal("");

export function keepToken(value) {
  if (value) sessionStorage.setItem(KEY, value);
  else sessionStorage.removeItem(KEY);
  outside.value = "";
  token.value = value;
}

async function send(path, { body, headers, kept, aside, ...options } = {}) {
  const asker = token.value;
  const all = { ...headers, ...(asker ? { Authorization: `Bearer ${asker}` } : {}), ...(kept?.etag ? { "If-None-Match": kept.etag } : {}) };
  let content = body;
  if (body !== undefined && !(body instanceof Blob) && !(body instanceof FormData)) {
    all["Content-Type"] = "application/json";
    content = JSON.stringify(body);
  }
  let answer;
  try {
    answer = await fetch(path, { ...options, body: content, headers: all, cache: "no-store", credentials: "omit" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, { code: "AWAY", message: t("api.away") });
  }
  if (answer.ok || (kept?.etag && answer.status === 304)) return answer;
  const { error } = await decoded(answer);
  // Refused before somebody signed in or out: who is there now has not been tried.
  if (answer.status === 401 && asker === token.value && !aside) {
    sessionStorage.removeItem(KEY);
    token.value = "";
    outside.value = asker ? "wrong" : "asked";
  }
  throw new Refused(answer.status, error);
}

async function decoded(answer) {
  try {
    return await answer.json();
  } catch {
    throw new Refused(answer.status, { code: "BROKEN", message: t("api.broken", { status: String(answer.status) }) });
  }
}

/** What the API answers to a question, without the envelope.
 *
 * @param options As of fetch; `body` is sent as JSON. `kept` is an object of the caller's: where the answer is the same as
 *     the last one that was asked for with it, it is that one, and has not been sent again. `onHeaders` is told the answer's.
 */
export async function ask(path, options) {
  const { kept, onHeaders } = options || {};
  const answer = await send(path, options);
  onHeaders?.(answer.headers);
  if (answer.status === 304) return kept.data;
  const body = await decoded(answer);
  const data = body.ok === true && "data" in body ? body.data : body;
  if (kept) Object.assign(kept, { etag: answer.headers.get("ETag"), data });
  return data;
}

/** The same, to be acted on: POST unless told otherwise. */
export const act = (path, body, method = "POST") => ask(path, { method, body });

/** The bytes of a file. */
export const fetchFile = async (path) => (await send(path)).arrayBuffer();

/** An answer that comes bit by bit. It is asked for aside: that it is refused takes nothing off the screen. */
export const fetchStream = async (path, options) => (await send(path, { ...options, aside: true })).body;
