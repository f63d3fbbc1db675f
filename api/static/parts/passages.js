// The passages that an answer was made from, with what a claim shares with them marked.

import { html } from "/static/preact.js";
import { number, t } from "/static/core/language.js";
import { Verdict } from "/static/parts/metrics.js";

// A word, a number, or one Chinese, Japanese or Korean character, which are written without spaces.
const TOKEN = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}]|(?:(?![\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}])[\p{L}\p{N}])+/gu;
// One word alone tells nothing where it is as short as "the".
const LONG = 5;
// Tokens that are looked at: a passage may be as long as a book.
const MOST = 20000;
// Characters from which a passage may scroll: then the keyboard has to reach it.
const SCROLLS = 400;

const folded = (text) => text.normalize("NFKC").toLowerCase();

function tokens(text) {
  const found = [];
  for (const each of text.matchAll(TOKEN)) {
    found.push({ from: each.index, to: each.index + each[0].length, word: folded(each[0]) });
    if (found.length >= MOST) break;
  }
  return found;
}

/** The parts of a text that say what the claim says, word for word: [[from, to], …] of runs of its words, longest first. */
export function shared(text, claim) {
  const [here, there] = [tokens(text), tokens(claim)];
  const places = new Map();
  there.forEach(({ word }, place) => places.set(word, [...(places.get(word) || []), place]));
  const runs = [];
  for (let at = 0; at < here.length;) {
    let longest = 0;
    for (const place of places.get(here[at].word) || []) {
      let length = 1;
      while (at + length < here.length && place + length < there.length && here[at + length].word === there[place + length].word) length += 1;
      longest = Math.max(longest, length);
    }
    const isTelling = longest > 1 || (longest === 1 && (here[at].word.length >= LONG || /\p{N}/u.test(here[at].word)));
    if (isTelling) runs.push([here[at].from, here[at + longest - 1].to]);
    at += Math.max(1, longest);
  }
  return runs;
}

/** A text with some parts of it marked. */
function Marked({ text, runs }) {
  if (!runs.length) return html`${text}`;
  const parts = [];
  let at = 0;
  for (const [from, to] of runs) {
    parts.push(text.slice(at, from), html`<mark>${text.slice(from, to)}</mark>`);
    at = to;
  }
  return html`${[...parts, text.slice(at)]}`;
}

/** All passages in their order.
 *
 * @param of The texts.
 * @param judged [{metric, claim}] with a verdict on a whole passage, by the passage's place.
 * @param claim The text that is looked for in them; empty for none.
 */
export function Passages({ of: passages, judged, claim }) {
  const found = passages.map((text) => (claim ? shared(text, claim) : []));
  const size = (runs) => runs.reduce((sum, [from, to]) => sum + to - from, 0);
  const most = Math.max(0, ...found.map(size));
  return html`<h2 id="passages-title">${t("job.passages")}</h2>
    <p id="marked" class="muted small" role="status">${claim ? t(most ? "job.marked" : "job.unmarked") : ""}</p>
    <ol class="passages" aria-labelledby="passages-title">${passages.map((text, place) => html`
      <li key=${place} id=${`passage-${place + 1}`} tabindex=${text.length > SCROLLS ? 0 : -1} class=${most && size(found[place]) === most ? "nearest" : null}>
        <p class="passage-head"><strong>${t("job.passage", { place: number(place + 1) })}</strong>
          ${(judged.get(place) || []).map(({ metric, verdict }) => html`<span class="small"><bdi>${metric}</bdi> <${Verdict} metric=${metric} of=${verdict} /></span>`)}</p>
        <p class="sentence" dir="auto"><${Marked} text=${text} runs=${found[place]} /></p></li>`)}</ol>`;
}

/** Look at a passage. */
export function showPassage(place) {
  const there = document.getElementById(`passage-${place}`);
  there?.scrollIntoView({ block: "nearest", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
  there?.focus({ preventScroll: true });
}
