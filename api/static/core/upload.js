// Sending a file, and saying how far it is: fetch can't tell of what it has sent.

import { Refused, keepToken, outside, token } from "/static/core/api.js";
import { t } from "/static/core/language.js";

/** Send a form with a file by POST.
 *
 * @param headers Beside the token's.
 * @param onProgress Takes the bytes that are sent, and all of them.
 * @param signal Ends it.
 * @returns What the API answers, without the envelope. Fails with Refused: of status 0 where the connection broke.
 */
export function sendForm(path, form, { headers = {}, onProgress, signal } = {}) {
  const asker = token.value;
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", path);
    if (asker) request.setRequestHeader("Authorization", `Bearer ${asker}`);
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    request.upload.addEventListener("progress", (event) => onProgress?.(event.loaded, event.total));
    request.addEventListener("error", () => reject(new Refused(0, { code: "AWAY", message: t("upload.broken") })));
    request.addEventListener("abort", () => reject(new DOMException("", "AbortError")));
    request.addEventListener("load", () => {
      const body = decoded(request.responseText);
      if (request.status < 400 && body?.ok) return resolve(body.data);
      if (request.status === 401 && asker === token.value) {
        keepToken("");
        outside.value = asker ? "wrong" : "asked";
      }
      return reject(new Refused(request.status, body?.error || { code: "BROKEN", message: t("api.broken", { status: String(request.status) }) }));
    });
    signal?.addEventListener("abort", () => request.abort(), { once: true });
    request.send(form);
  });
}

function decoded(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** A word that names a request: sent again with it, what was accepted is not done twice. */
export function newKey() {
  // Not randomUUID: a browser has it on encrypted pages alone.
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
