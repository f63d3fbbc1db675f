// What is looked at, kept in the address: going back, reloading and handing on a link all lead to the same view.

const STATES = ["queued", "running", "cancelling", "completed", "failed", "cancelled"];
const ACTIONS = ["pipeline", "run", "score", "validate", "batch", "rag-score"];

/** What the address asks for: part of a name, states, an action, a page, and a batch's members. */
export function wanted() {
  const given = new URLSearchParams(location.search);
  const first = Number.parseInt(given.get("first") || "0", 10);
  return {
    q: (given.get("q") || "").trim(),
    state: (given.get("state") || "").split(",").filter((one) => STATES.includes(one)).join(","),
    action: ACTIONS.includes(given.get("action")) ? given.get("action") : "",
    cursor: given.get("cursor") || "",
    member: (given.get("member") || "").trim(),
    first: Number.isFinite(first) && first > 0 ? first : 0,
  };
}

/** The pages that led to this one; a link that was handed on knows none. */
export const trail = () => (Array.isArray(history.state?.trail) ? history.state.trail : []);

/** Ask for something else. What is empty leaves the address; `replace` makes no step to go back to. */
export function change(values, { replace = false, trail: led = trail() } = {}) {
  const next = new URLSearchParams(location.search);
  for (const [key, value] of Object.entries(values)) {
    if (value) next.set(key, String(value));
    else next.delete(key);
  }
  const query = next.toString();
  const address = `${location.pathname}${query ? `?${query}` : ""}${location.hash}`;
  if (replace) history.replaceState({ trail: led }, "", address);
  else if (address !== location.pathname + location.search + location.hash) history.pushState({ trail: led }, "", address);
}

/** The task that is open, or an empty text. */
export function openId() {
  try {
    const id = decodeURIComponent(location.hash.slice(1));
    return id === "tasks" ? "" : id;
  } catch {
    return ""; // not written by this page
  }
}

/** Close the task that is open: the rest of the view stays. */
export function closeId() {
  const next = new URLSearchParams(location.search);
  for (const key of ["member", "first"]) next.delete(key);
  const query = next.toString();
  history.pushState({ trail: trail() }, "", location.pathname + (query ? `?${query}` : ""));
}
