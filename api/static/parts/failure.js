// Why there is no score, as the report tells it: a sentence, whose cause, what to do, and the end of the log.

import { html } from "/static/preact.js";
import { meaning, t, word } from "/static/core/language.js";
import { Facts, Lines, Name, Value } from "/static/parts/basic.js";

const MOST_PROBLEMS = 50;
const LOG_LINES = 200;

function Problem({ of: each }) {
  if (!each || typeof each !== "object" || !("message" in each)) return html`<li><${Value} of=${each} /></li>`;
  return html`<li><strong>${meaning(each.code)?.title || html`<${Name} text=${each.code} />`}</strong><br /><span dir="auto">${String(each.message)}</span></li>`;
}

/** An error of the catalogue, in full. */
export function Failure({ error }) {
  const { problems, log, ...details } = error.details || {};
  const known = meaning(error.code);
  const many = Array.isArray(problems) && problems.length > 0;
  // Of many problems the message only strings together what stands in the list below.
  const listed = many && String(error.message).startsWith(`${problems.length} problems. `);
  const tail = Array.isArray(log) ? log.slice(-LOG_LINES).map(String).join("\n") : log ? String(log) : "";
  return html`<div class="problem failure">
    <h2 class="first">${known ? known.title : t("failure.title")}</h2>
    <p class="sentence" dir="auto">${listed ? t("failure.problems", { n: problems.length }) : String(error.message)}</p>
    ${many && html`<ul>${problems.slice(0, MOST_PROBLEMS).map((each) => html`<${Problem} of=${each} />`)}
      ${problems.length > MOST_PROBLEMS && html`<li>${t("value.more", { n: problems.length - MOST_PROBLEMS })}</li>`}</ul>`}
    <${Facts} of=${[
      [t("failure.cause"), known?.cause],
      [t("failure.advice"), known?.advice],
      [t("failure.stage"), html`<span>${word("stage", error.stage)} <code><${Name} text=${error.code} /></code></span>`],
      ...Object.entries(details).map(([key, value]) => [html`<${Name} text=${key} />`, html`<${Value} of=${value} />`]),
    ]} />
    ${tail && html`<p class="label">${t("failure.log")}</p><${Lines} text=${tail} label=${t("failure.log")} />`}
  </div>`;
}

/** Why something that was asked for is not there, in a line; nothing where there is no problem. */
export function Refusal({ of: error }) {
  if (!error) return null;
  const title = error.code ? meaning(error.code)?.title || error.code : null;
  return html`<div class="problem" role="alert">${title ? `${title}: ${error.message}` : t("page.fault", { message: error.message })}</div>`;
}
