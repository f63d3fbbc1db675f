// What is looked at stands in the address: going back, reloading and handing on a link all lead to the same view.

import { signal } from "/static/preact.js";

const BASE = "/ui/";

function read() {
  const path = location.pathname.startsWith(BASE) ? location.pathname.slice(BASE.length) : "records";
  const [view, ...rest] = path.split("/").filter(Boolean).map(decoded);
  return { view: view || "records", id: rest.join("/"), query: new URLSearchParams(location.search) };
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part; // not written by this page
  }
}

/** The view that the address asks for: its name, what it is of, and everything after the question mark. */
export const route = signal(read());

/** A name with slashes, to stand in an address. */
export const encoded = (name) => name.split("/").map(encodeURIComponent).join("/");

/** The address of a view. What is empty does not stand in it; a language that the address names goes along. */
export function to(view, id = "", query = {}) {
  const asked = new URLSearchParams();
  const lang = route.value.query.get("lang");
  if (lang && !("lang" in query)) asked.set("lang", lang);
  for (const [key, value] of Object.entries(query)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== "" && one !== null && one !== undefined && one !== false) asked.append(key, String(one));
    }
  }
  const path = BASE + [view, ...String(id).split("/")].filter(Boolean).map(encodeURIComponent).join("/");
  return asked.size ? `${path}?${asked}` : path;
}

/** The pages of a list that led to this one; a link that was handed on knows none. */
export const trail = () => (Array.isArray(history.state?.trail) ? history.state.trail : []);

/** Look at something else; `replace` makes no step to go back to, `led` is the trail from then on. */
export function go(address, { replace = false, led = [] } = {}) {
  if (address === location.pathname + location.search + location.hash) return;
  history[replace ? "replaceState" : "pushState"]({ trail: led }, "", address);
  route.value = read();
}

/** Change what is asked for of the view that is open. */
export function change(values, options = {}) {
  const { view, id, query } = route.value;
  const next = {};
  for (const key of query.keys()) next[key] = query.getAll(key);
  go(to(view, id, { ...next, ...values }), options);
}

/** One of the words that a view knows, or the first of them. */
export function chosen(query, key, known) {
  return known.includes(query.get(key)) ? query.get(key) : known[0];
}

// What the page was called before: /records#ID and /#ID.
function followOld() {
  const old = /^#([0-9a-z-]{1,64})$/.exec(location.hash);
  if (old && !location.pathname.startsWith(BASE) && old[1] !== "main") history.replaceState(null, "", to("record", old[1]));
}

/** Follow the address from now on. */
export function follow() {
  followOld();
  route.value = read();
  addEventListener("popstate", () => { route.value = read(); });
  addEventListener("hashchange", () => { followOld(); route.value = read(); });
  document.addEventListener("click", (event) => {
    // With a key held, the browser opens its own tab or window.
    const link = event.target.closest?.(`a[href^="${BASE}"]`);
    if (!link || link.target || event.defaultPrevented || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    go(link.getAttribute("href"));
    scrollTo(0, 0);
  });
}
