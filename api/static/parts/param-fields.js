// A form for a scorer's params, made from their JSON schema.

import { html } from "/static/preact.js";
import { t } from "/static/core/language.js";
import { paramsOf, rangeOf } from "/static/core/params.js";
import { Area, Choice, Several, Text } from "/static/parts/form-fields.js";

/** What stands there when nobody has chosen: as text. */
export function initialOf({ initial, isNeeded }) {
  if (initial === undefined) return isNeeded ? t("param.needed") : "–";
  if (initial === null) return "–";
  if (typeof initial === "boolean") return t(initial ? "value.yes" : "value.no");
  if (typeof initial !== "object") return String(initial);
  return Array.isArray(initial) && initial.every((each) => typeof each !== "object") ? initial.join(", ") : JSON.stringify(initial);
}

/** What it takes, in words. */
export function takes({ kind, limits, choices }) {
  const [low, high] = rangeOf(limits);
  const range = low !== null && high !== null ? t("param.between", { low: String(low), high: String(high) })
    : low !== null ? t("param.from", { low: String(low) }) : high !== null ? t("param.until", { high: String(high) }) : "";
  const what = kind === "number" ? t(limits.type === "integer" ? "param.takes.whole" : "param.takes.number")
    : kind === "choice" || kind === "names" ? choices.map(String).join(", ")
      : kind === "truth" ? t("param.takes.truth") : kind === "text" ? t("param.takes.text")
        : kind === "list" ? t("param.takes.list") : kind === "either" ? t("param.takes.either") : t("param.takes.encoded");
  return [what, range].filter(Boolean).join(t("value.and"));
}

function Field({ of: each, value, problem, onInput }) {
  const id = `param-${each.name}`;
  const label = html`<bdi class="mono">${each.name}</bdi>`;
  const initial = initialOf(each);
  const hint = html`<bdi>${each.help}</bdi> ${["number", "list", "either", "json"].includes(each.kind) && html`<span>(${takes(each)})</span>`}`;
  const shared = { id, label, hint, problem };
  if (each.kind === "choice" || each.kind === "truth") {
    const options = each.kind === "truth" ? [["true", t("value.yes")], ["false", t("value.no")]] : each.choices.map((choice, index) => [String(index), String(choice)]);
    return html`<${Choice} ...${shared} value=${value ?? ""} of=${[["", t("param.unchanged", { value: initial })], ...options]} onChange=${onInput} />`;
  }
  if (each.kind === "names") return html`<${Several} ...${shared} value=${value || []} of=${each.choices} onChange=${onInput} />`;
  const unchanged = t("param.unchanged", { value: initial });
  if (each.kind === "json") return html`<${Area} ...${shared} rows="2" value=${value ?? ""} placeholder=${unchanged} onInput=${onInput} />`;
  return html`<${Text} ...${shared} value=${value ?? ""} placeholder=${unchanged} inputmode=${each.kind === "number" ? "decimal" : null} onInput=${onInput} />`;
}

/** The fields of a schema.
 *
 * @param values Name to what stands in its field; see `written` of core/params.js.
 * @param problems Name to the key of a word that says what is wrong.
 */
export function ParamFields({ schema, values, problems = {}, onChange }) {
  const all = paramsOf(schema);
  if (!all.length) return html`<p class="muted">${t("param.none")}</p>`;
  return html`<div class="fields">${all.map((each) => html`<${Field} key=${each.name} of=${each} value=${values[each.name]}
    problem=${problems[each.name] && t(problems[each.name])} onInput=${(value) => onChange({ ...values, [each.name]: value })} />`)}</div>`;
}
