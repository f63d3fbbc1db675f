// A scorer's params as its JSON schema has them: what each one takes, and what is sent of what was written.

const SIMPLE = ["string", "number", "integer"];

/** What a param takes, from its part of the schema.
 *
 * @returns {name, kind, item, choices, limits, help, initial, isNeeded}; the kind is one of choice, truth, number, text, names
 *   (some of `choices`), list (of `item`), and json for what has no field of its own.
 */
function param(name, schema, isNeeded) {
  const all = (schema.anyOf || [schema]).filter((each) => each.type !== "null");
  const one = all.length === 1 ? { ...schema, ...all[0] } : schema;
  const found = { name, help: schema.description || "", initial: schema.default, isNeeded, limits: one };
  if (all.length > 1) return { ...found, kind: all.some((each) => each.type === "string") ? "either" : "json" };
  if (one.enum || one.const !== undefined) return { ...found, kind: "choice", choices: one.enum || [one.const] };
  if (one.type === "boolean") return { ...found, kind: "truth" };
  if (one.type === "integer" || one.type === "number") return { ...found, kind: "number" };
  if (one.type === "string") return { ...found, kind: "text" };
  if (one.type === "array") {
    const items = one.items || one.prefixItems?.[0];
    if (items?.enum) return { ...found, kind: "names", choices: items.enum };
    if (SIMPLE.includes(items?.type)) return { ...found, kind: "list", item: items };
  }
  return { ...found, kind: "json" };
}

/** All params of a schema, in its order. */
export function paramsOf(schema) {
  return Object.entries(schema?.properties || {}).map(([name, each]) => param(name, each, (schema.required || []).includes(name)));
}

/** How far a number may go, as [lowest, highest, whether they themselves may be]; null for no end. */
export const rangeOf = (limits) => [limits.minimum ?? limits.exclusiveMinimum ?? null, limits.maximum ?? limits.exclusiveMaximum ?? null];

function numbered(text, limits) {
  const value = Number(text);
  if (!text.trim() || !Number.isFinite(value)) throw new Problem("param.number");
  if (limits.type === "integer" && !Number.isSafeInteger(value)) throw new Problem("param.whole");
  const isIn = value >= (limits.minimum ?? -Infinity) && value <= (limits.maximum ?? Infinity)
    && value > (limits.exclusiveMinimum ?? -Infinity) && value < (limits.exclusiveMaximum ?? Infinity);
  if (!isIn) throw new Problem("param.range");
  return value;
}

class Problem extends Error {}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    throw new Problem("param.broken");
  }
}

function sent({ kind, choices, limits, item }, value) {
  if (kind === "choice") return choices[Number(value)];
  if (kind === "truth") return value === "true";
  if (kind === "number") return numbered(value, limits);
  if (kind === "names") return value;
  if (kind === "either") return value.trimStart().startsWith("[") ? parsed(value) : value;
  if (kind === "json") return parsed(value);
  if (kind !== "list") return value;
  const parts = value.split(/[,，\n]/).map((part) => part.trim()).filter(Boolean);
  if (parts.length < (limits.minItems ?? 0) || parts.length > (limits.maxItems ?? Infinity)) throw new Problem("param.length");
  return item.type === "string" ? parts : parts.map((part) => numbered(part, item));
}

/** What is sent of what was written: only what was changed.
 *
 * @param values Name to what stands in its field; what stands not there, or is empty, was not changed.
 * @returns {params, problems}: problems by name, each the key of a word.
 */
export function written(all, values) {
  const params = {};
  const problems = {};
  for (const each of all) {
    const value = values[each.name];
    if (value === undefined || value.length === 0) {
      if (each.isNeeded && each.initial === undefined) problems[each.name] = "param.needed";
      continue;
    }
    try {
      params[each.name] = sent(each, value);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      problems[each.name] = error.message;
    }
  }
  return { params, problems };
}
