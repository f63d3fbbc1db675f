// What somebody has chosen stays in this browser: filters that were saved, columns that are shown.

const PREFIX = "autoscorer-";

/** What was kept under a name, or `otherwise`. */
export function kept(name, otherwise) {
  try {
    const text = localStorage.getItem(PREFIX + name);
    return text === null ? otherwise : JSON.parse(text);
  } catch {
    return otherwise; // a browser that keeps nothing, or what another version has kept
  }
}

export function keep(name, value) {
  try {
    localStorage.setItem(PREFIX + name, JSON.stringify(value));
  } catch { /* it holds for this tab */ }
}
