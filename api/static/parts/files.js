// The files of a task's Result: their pictures, and links that a browser opens also where a token is needed.

import { html, useEffect, useState } from "/static/preact.js";
import { encoded } from "/static/core/address.js";
import { ask, fetchFile, token } from "/static/core/api.js";
import { bytes, language, t, tagOf } from "/static/core/language.js";
import { Muted, Name, Part } from "/static/parts/basic.js";

const PICTURES = { svg: "image/svg+xml", png: "image/png", jpg: "image/jpeg", jpeg: "image/jpeg", webp: "image/webp", gif: "image/gif" };
// Milliseconds; a link is good for ten minutes.
const RENEWED_AFTER = 420000;

const typeOf = (file) => PICTURES[file.split(".").pop().toLowerCase()];

/** What there is of a task's files: {all, problem, base}; `base` is where a browser opens them. */
export function useFiles(task) {
  const [state, set] = useState({ all: [], problem: "", base: "" });
  const isScored = Boolean(task?.workspace && Object.keys(task.result?.artifacts || {}).length);
  const below = task ? `/tasks/${encodeURIComponent(task.id)}` : "";
  const asker = token.value;
  useEffect(() => {
    if (!isScored) return undefined;
    let isOver = false;
    let timer = 0;
    let all = [];
    const load = async () => {
      try {
        if (!all.length) all = (await ask(`${below}/artifacts`)).artifacts;
        const base = asker ? (await ask(`${below}/links`, { method: "POST" })).base : below;
        if (!isOver) set({ all, problem: "", base });
      } catch (error) {
        if (!isOver) set({ all, problem: error.message, base: "" });
      }
      if (!isOver) timer = setTimeout(load, RENEWED_AFTER);
    };
    load();
    return () => {
      isOver = true;
      clearTimeout(timer);
    };
  }, [below, isScored, task?.ended_at, asker]);
  return state;
}

/** A file, opened in a tab of its own, where it may neither run anything nor reach this page. */
export function FileLink({ file, base, children, look, id }) {
  if (!base || !file.kept) return html`<${Name} text=${file.name} />`;
  return html`<a id=${id} class=${look} data-file=${file.file} href=${`${base}/artifacts/${encoded(file.file)}`} target="_blank" rel="noopener noreferrer">${children || html`<${Name} text=${file.name} />`}</a>`;
}

/** What the picture's author says that it shows: an SVG's own description, in this language where it has one. */
function described(content, tag) {
  const text = new TextDecoder().decode(content.slice(0, 8192));
  const found = new RegExp(`<desc lang="${tag}">([^<]{1,2000})</desc>`).exec(text)
    || /<desc>([^<]{1,2000})<\/desc>/.exec(text) || /<title>([^<]{1,300})<\/title>/.exec(text);
  // Its characters are escaped as XML has them; a text node of that document reads them.
  return found ? new DOMParser().parseFromString(`<t>${found[1]}</t>`, "text/xml").documentElement.textContent : "";
}

/** One of our own plots, which holds its words in every language, with this one's. */
function spoken(content, tag) {
  const text = new TextDecoder().decode(content);
  return text.startsWith("<svg xmlns=") ? text.replace("<svg ", "<svg lang=" + JSON.stringify(tag) + " ") : content;
}

function Picture({ task, file, base }) {
  const tag = tagOf(language());
  const [state, set] = useState(null);
  const address = `/tasks/${encodeURIComponent(task.id)}/artifacts/${encoded(file.file)}`;
  useEffect(() => {
    let made = "";
    let isOver = false;
    const type = typeOf(file.file);
    fetchFile(address).then((content) => {
      if (isOver) return;
      // As an image: a browser runs nothing inside it, whatever its bytes say.
      const isDrawn = type === PICTURES.svg;
      made = URL.createObjectURL(new Blob([isDrawn ? spoken(content, tag) : content], { type }));
      set({ address: made, text: isDrawn ? described(content, tag) : "" });
    }, (error) => set({ reason: error.message }));
    return () => {
      isOver = true;
      URL.revokeObjectURL(made);
    };
  }, [address, tag]);
  if (state?.reason) return html`<figure><p class="muted">${t("plots.gone", { name: file.name, reason: state.reason })}</p></figure>`;
  return html`<figure>
    ${state && html`<img src=${state.address} alt=${state.text || file.name} onError=${() => set({ reason: t("plots.unreadable") })} />`}
    <figcaption><${FileLink} file=${file} base=${base} /></figcaption></figure>`;
}

/** The pictures among the files. */
export function Plots({ task, files }) {
  const pictures = files.all.filter((file) => typeOf(file.file) && file.kept);
  return pictures.length > 0 && html`<${Part} title=${t("plots.title")}><div class="plots">
    ${pictures.map((file) => html`<${Picture} key=${file.file} task=${task} file=${file} base=${files.base} />`)}</div></>`;
}

/** All files by name. */
export function Files({ files }) {
  if (!files.all.length && !files.problem) return null;
  return html`<${Part} title=${t("files.title")}>
    <ul>${files.all.map((file) => html`<li><${FileLink} file=${file} base=${files.base} /> <${Muted}>${file.kept ? bytes(file.size) : t("files.gone")}</></li>`)}</ul>
    ${files.problem && html`<p class="muted">${t("files.away", { reason: files.problem })}</p>`}
    ${files.all.some((file) => !file.kept) && html`<p class="muted">${t("files.gone.why")}</p>`}</>`;
}
