// The files of a task's Result: where they are, their pictures, and links that work with a token, too.

import { Refused, fetchFile, token } from "./api.js";
import { el, name } from "./dom.js";
import { t } from "./language.js";

const PICTURES = { svg: "image/svg+xml", png: "image/png", jpg: "image/jpeg", jpeg: "image/jpeg", webp: "image/webp", gif: "image/gif" };
const OPENED_FOR = 10000;

// Address → promise of [blob address, description]: a picture is fetched once, however often the detail is drawn anew.
const fetched = new Map();

/** Forget the pictures: another task is looked at, or somebody else. */
export function forgetPictures() {
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

/** A link sends no token; what is fetched with one is saved, because opened here it would be this page's own. */
async function save(event, file, tell) {
  if (!token()) return;
  event.preventDefault();
  const opener = event.currentTarget;
  try {
    const blob = new Blob([await fetchFile(file.address)], { type: "application/octet-stream" });
    const link = el("a", { href: URL.createObjectURL(blob), download: file.file });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), OPENED_FOR);
  } catch (error) {
    // Such as the report for a token that may not see ground truth: a note, no link that leads nowhere.
    if (error instanceof Refused && error.status === 403) opener.replaceWith(`${opener.textContent}: ${error.message}`);
    else tell(error);
  }
}

/** The files of a task. */
export function filesOf(task, tell) {
  const artifacts = task.result?.artifacts;
  if (!task.workspace || !artifacts || typeof artifacts !== "object") return [];
  return Object.entries(artifacts).map(([key, artifact]) => {
    const path = String(artifact.path);
    const type = PICTURES[path.split(".").pop().toLowerCase()];
    const file = {
      name: key,
      file: path.split("/").pop(),
      size: artifact.size,
      kept: true,
      isPicture: Boolean(type),
      address: `/artifacts/${path.split("/").map(encodeURIComponent).join("/")}?workspace=${encodeURIComponent(task.workspace)}`,
    };
    file.link = (text, look) => {
      const link = el("a", { href: file.address, target: "_blank", rel: "noopener noreferrer", class: look }, text || name(key));
      link.addEventListener("click", (event) => save(event, file, tell));
      return link;
    };
    file.figure = () => figureOf(file, type);
    return file;
  });
}
