// The files of a task's Result: where they are, their pictures, and links that work with a token, too.

import { Refused, ask, fetchFile, token } from "./api.js";
import { el, name } from "./dom.js";
import { t } from "./language.js";

const PICTURES = { svg: "image/svg+xml", png: "image/png", jpg: "image/jpeg", jpeg: "image/jpeg", webp: "image/webp", gif: "image/gif" };
// Milliseconds; a link is good for ten minutes.
const RENEWED_AFTER = 420000;

// Address → promise of [blob address, description]: a picture is fetched once, however often the detail is drawn anew.
const fetched = new Map();

function forgetPictures() {
  for (const picture of fetched.values()) picture.then(([address]) => URL.revokeObjectURL(address), () => {});
  fetched.clear();
}

/** What the picture's author says that it shows: an SVG's own description. */
function described(bytes) {
  const text = new TextDecoder().decode(bytes.slice(0, 8192));
  const found = /<desc>([^<]{1,2000})<\/desc>/.exec(text) || /<title>([^<]{1,300})<\/title>/.exec(text);
  // Its characters are escaped as XML has them; a text node of that document reads them.
  return found ? new DOMParser().parseFromString(`<t>${found[1]}</t>`, "text/xml").documentElement.textContent : "";
}

async function load(address, type) {
  const bytes = await fetchFile(address);
  // As an image: a browser runs nothing inside it, whatever its bytes say.
  return [URL.createObjectURL(new Blob([bytes], { type })), type === PICTURES.svg ? described(bytes) : ""];
}

function figureOf(file, type) {
  const caption = el("figcaption", {}, file.link());
  const place = el("figure", {}, caption);
  const say = (reason) => place.replaceChildren(el("p", { class: "muted" }, t("plots.gone", { name: file.name, reason })));
  if (!fetched.has(file.address)) fetched.set(file.address, load(file.address, type));
  fetched.get(file.address).then(([address, text]) => {
    const image = el("img", { alt: text || file.name });
    image.addEventListener("error", () => say(t("plots.unreadable")));
    image.src = address;
    place.prepend(image);
  }, (error) => {
    fetched.delete(file.address);
    say(error.message);
  });
  return place;
}

// --- where they are --------------------------------------------------------------------------------------------------

// Of the task that is looked at: what its Result lists, and the signed address that opens it in a browser.
let listed = { id: "" };

/** Ask what there is of a task's files; with a token also for a link that opens them, which is good for some minutes. */
export async function loadFiles(task) {
  const isScored = task.workspace && Object.keys(task.result?.artifacts || {}).length > 0;
  const key = `${task.id} ${task.ended_at}`;
  if (listed.id !== key) listed = { id: key, files: [], problem: "", base: "", at: 0 };
  if (!isScored) return;
  const mine = listed;
  const below = `/tasks/${encodeURIComponent(task.id)}`;
  try {
    if (!mine.files.length) mine.files = (await ask(`${below}/artifacts`)).artifacts;
    // By this browser's own clock: the service's may differ.
    if (token() && Date.now() - mine.at > RENEWED_AFTER) {
      mine.base = (await ask(`${below}/links`, { method: "POST" })).base;
      mine.at = Date.now();
    } else if (!token()) mine.base = below;
    mine.problem = "";
  } catch (error) {
    if (error instanceof Refused && error.status === 401) throw error;
    mine.problem = error.message;
  }
  for (const link of document.querySelectorAll("a[data-file]")) link.href = opened(link.dataset.file);
}

/** What was asked for last can't be had by somebody else. */
export function forgetFiles() {
  listed = { id: "" };
  forgetPictures();
}

const encoded = (file) => file.split("/").map(encodeURIComponent).join("/");
const opened = (file) => `${listed.base}/artifacts/${encoded(file)}`;

/** The files of the task that was asked for last, and what went wrong with asking. */
export function files(task) {
  const all = (listed.files || []).map((each) => {
    const type = PICTURES[each.file.split(".").pop().toLowerCase()];
    const file = { ...each, isPicture: Boolean(type), address: `/tasks/${encodeURIComponent(task.id)}/artifacts/${encoded(each.file)}` };
    // Opened in a tab of its own, where it may neither run anything nor reach this page.
    file.link = (text, look) => el("a", { href: opened(each.file), "data-file": each.file, target: "_blank", rel: "noopener noreferrer", class: look }, text || name(each.name));
    file.figure = () => figureOf(file, type);
    return file;
  });
  return { all, problem: listed.problem || "" };
}
