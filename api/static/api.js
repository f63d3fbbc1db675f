// Asking the API, with the token of this tab where there is one.

import { t } from "./language.js";

const KEY = "autoscorer-token";

/** An answer that is an error of the catalogue; status 0 where nothing answered. */
export class Refused extends Error {
  constructor(status, error, sent = null) {
    super(error.message);
    this.sent = sent; // the token that it was asked with; meanwhile there may be another
    this.status = status;
    this.code = error.code;
    this.stage = error.stage;
    this.details = error.details;
  }
}

export const token = () => sessionStorage.getItem(KEY);

export function keepToken(value) {
  if (value) sessionStorage.setItem(KEY, value);
  else sessionStorage.removeItem(KEY);
}

async function send(path, options = {}) {
  const headers = token() ? { Authorization: `Bearer ${token()}` } : {};
  try {
    return await fetch(path, { ...options, headers, cache: "no-store", credentials: "omit" });
  } catch {
    throw new Refused(0, { code: "AWAY", message: t("api.away") });
  }
}

async function envelope(answer) {
  try {
    return await answer.json();
  } catch {
    throw new Refused(answer.status, { code: "BROKEN", message: t("api.broken", { status: String(answer.status) }) });
  }
}

/** What the API answers to a question. */
export async function ask(path, options = {}) {
  const sent = token();
  const answer = await send(path, options);
  const body = await envelope(answer);
  if (!body.ok) throw new Refused(answer.status, body.error, sent);
  return body.data;
}

/** What an address answers that has no envelope around it, but for errors. */
export async function askBare(path, options = {}) {
  const sent = token();
  const answer = await send(path, options);
  const body = await envelope(answer);
  if (!answer.ok) throw new Refused(answer.status, body.error, sent);
  return body;
}

/** The bytes of a file. */
export async function fetchFile(path) {
  const sent = token();
  const answer = await send(path);
  if (!answer.ok) throw new Refused(answer.status, (await envelope(answer)).error, sent);
  return answer.arrayBuffer();
}
