// Why an answer's scores are what they are: each claim with its verdict, the reason, and where to look.

import { html } from "/static/preact.js";
import { change, route } from "/static/core/address.js";
import { number, t } from "/static/core/language.js";
import { Name } from "/static/parts/basic.js";
import { Verdict, inOrder } from "/static/parts/metrics.js";
import { showPassage } from "/static/parts/passages.js";

// How a judge names a passage in its reason: the prompts number them so.
const NAMED = /\[(\d{1,3})\]/g;

/** A claim's name in the address: of which metric, and which of its claims. */
export const keyOf = (metric, place) => `${metric}.${place + 1}`;

/** The text of the claim that the address names; empty where it names none. */
export function chosenClaim(metrics) {
  const [metric, place] = (route.value.query.get("claim") || "").split(".");
  return metrics[metric]?.claims[Number(place) - 1]?.text || "";
}

/** Verdicts on whole passages, by the passage's place: their claims are the passages' own texts, in their order. */
export function judgedPassages(metrics, passages) {
  const found = new Map();
  for (const [metric, { claims }] of Object.entries(metrics)) {
    if (!claims.length || claims.length !== passages.length || claims.some((claim, place) => claim.text !== passages[place])) continue;
    claims.forEach((claim, place) => found.set(place, [...(found.get(place) || []), { metric, verdict: claim.verdict }]));
  }
  return found;
}

/** A judge's reason, in which the passages that it names are links. */
function Reason({ text, passages }) {
  const parts = [];
  let at = 0;
  for (const each of text.matchAll(NAMED)) {
    const place = Number(each[1]);
    if (place < 1 || place > passages.length) continue;
    parts.push(text.slice(at, each.index), html`<button type="button" class="link" aria-label=${t("job.passage", { place: number(place) })} onClick=${() => showPassage(place)}>${each[0]}</button>`);
    at = each.index + each[0].length;
  }
  return html`<p class="reason" dir="auto">${[...parts, text.slice(at)]}</p>`;
}

function Claim({ metric, claim, place, passages, isPassage, children }) {
  const key = keyOf(metric, place);
  const isChosen = route.value.query.get("claim") === key;
  return html`<li class=${claim.verdict === false ? "claim bad" : "claim"} data-claim=${key} aria-current=${isChosen ? "true" : null}>
    <p class="claim-head"><${Verdict} metric=${metric} of=${claim.verdict} />
      ${isPassage
        ? html`<button type="button" class="link" onClick=${() => showPassage(place + 1)}>${t("job.passage", { place: number(place + 1) })}</button>`
        : html`<span class="claim-text"><${Name} text=${claim.text} /></span>`}</p>
    ${claim.reason && html`<${Reason} text=${claim.reason} passages=${passages} />`}
    ${(passages.length > 0 && !isPassage) || children ? html`<p class="claim-tools">
      ${passages.length > 0 && !isPassage && html`<button type="button" class="quiet show" aria-pressed=${isChosen} onClick=${() => change({ claim: isChosen ? "" : key }, { replace: true })}>${t(isChosen ? "job.hide" : "job.show")}</button>`}
      ${children}</p>` : null}
  </li>`;
}

function Judged({ metric, score, passages, onlyBad, tools }) {
  const isPassages = judgedPassages({ [metric]: score }, passages).size > 0;
  const all = score.claims.map((claim, place) => ({ claim, place }));
  const shown = onlyBad ? all.filter(({ claim }) => claim.verdict === false) : all;
  if (onlyBad && !shown.length) return null;
  const held = all.filter(({ claim }) => claim.verdict === true).length;
  return html`<section class="judged" aria-label=${metric}>
    <h3><${Name} text=${metric} />${all.length > 0 && html` <span class="thin">${t("job.held", { held: number(held), n: all.length })}</span>`}</h3>
    ${score.reason && !onlyBad && html`<p class="muted" dir="auto">${score.reason}</p>`}
    ${shown.length > 0 && html`<ul class="claims">${shown.map(({ claim, place }) => html`
      <${Claim} key=${place} metric=${metric} claim=${claim} place=${place} passages=${passages} isPassage=${isPassages}>${tools?.(metric, place)}</>`)}</ul>`}
  </section>`;
}

/** Every metric that has a reason or claims, in the order of the catalogue.
 *
 * @param metrics Metric to what is known of it.
 * @param passages The texts that the claims were held against.
 * @param tools What else can be done with a claim: a function of metric and place.
 */
export function Reasons({ metrics, passages, tools }) {
  const onlyBad = route.value.query.get("only") === "unsupported";
  // Why a metric has no score stands beside it already.
  const there = inOrder(Object.keys(metrics)).filter((metric) => metrics[metric].claims.length || (metrics[metric].status === "ok" && metrics[metric].reason));
  const bad = there.flatMap((metric) => metrics[metric].claims).filter((claim) => claim.verdict === false).length;
  const hasClaims = there.some((metric) => metrics[metric].claims.length);
  if (!there.length) return html`<h2>${t("job.reasons")}</h2><p class="muted">${t("job.reasons.none")}</p>`;
  return html`<h2>${t("job.reasons")}</h2>
    ${hasClaims && html`<label class="check"><input type="checkbox" id="only" checked=${onlyBad} onChange=${(event) => change({ only: event.target.checked ? "unsupported" : "" })} />
      ${t("job.unsupported")} <span class="muted">(${number(bad)})</span></label>`}
    ${onlyBad && !bad && html`<p class="muted" role="status">${t("job.unsupported.none")}</p>`}
    ${there.map((metric) => html`<${Judged} key=${metric} metric=${metric} score=${metrics[metric]} passages=${passages} onlyBad=${onlyBad} tools=${tools} />`)}`;
}
