// Prometheus's text format, as far as GET /metrics writes it.

const LINE = /^([A-Za-z_:][\w:]*)(?:\{(.*)\})? (\S+)/;
const LABEL = /([A-Za-z_]\w*)="((?:[^"\\]|\\.)*)"/g;
const ESCAPED = { n: "\n" };

/** All samples by their names: [{labels, value}]. A line that is none is left out; what is not finite is no number here. */
export function samples(text) {
  const found = new Map();
  for (const line of text.split("\n")) {
    const [, name, inside, number] = (!line.startsWith("#") && LINE.exec(line)) || [];
    if (!name) continue;
    const labels = {};
    for (const [, key, value] of (inside || "").matchAll(LABEL)) labels[key] = value.replace(/\\(.)/g, (_, mark) => ESCAPED[mark] || mark);
    if (!found.has(name)) found.set(name, []);
    found.get(name).push({ labels, value: Number(number) });
  }
  return found;
}

/** The sum of the samples of a name whose labels are these; null where there is none, or it is no number. */
export function total(found, name, labels = {}) {
  const some = (found.get(name) || []).filter((each) => Object.entries(labels).every(([key, value]) => each.labels[key] === value));
  const sum = some.reduce((all, each) => all + each.value, 0);
  return some.length && Number.isFinite(sum) ? sum : null;
}
