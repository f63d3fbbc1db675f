// Which language the page speaks, and how it writes numbers, times and sizes in it.

import { signal } from "/static/preact.js";
import { failures } from "/static/words/failures.js";
import { LANGUAGES, words as common } from "/static/words/words.js";

const KEPT = "autoscorer-language";
// Written the same way in every part of the page: the tags a browser and a screen reader know.
const TAGS = { en: "en", zh: "zh-CN" };

// Those of all views, and of each view that was opened.
const words = { ...common };
// What is drawn with a word is drawn anew when the language changes.
const now = signal("en");
let tools = {};

const known = (name) => LANGUAGES.find((one) => (name || "").toLowerCase().split("-")[0] === one);

function kept() {
  try {
    return localStorage.getItem(KEPT);
  } catch {
    return null; // a browser that keeps nothing
  }
}

/** The language to begin with: the address's, else the one chosen last, else the browser's first that is known. */
export function firstLanguage() {
  return known(new URLSearchParams(location.search).get("lang")) || known(kept())
    || (navigator.languages || [navigator.language]).map(known).find(Boolean) || "en";
}

/** Know the words of one more dictionary. */
export const learn = (more) => Object.assign(words, more);

export const language = () => now.value;
export const otherLanguage = () => LANGUAGES.find((one) => one !== now.value);
export const tagOf = (name) => TAGS[name];

/** Speak a language from now on; `keep` remembers the choice in this browser. */
export function speak(name, keep = false) {
  const next = known(name) || "en";
  const tag = TAGS[next];
  tools = {
    plural: new Intl.PluralRules(tag),
    long: new Intl.DateTimeFormat(tag, { dateStyle: "medium", timeStyle: "medium" }),
    clock: new Intl.DateTimeFormat(tag, { timeStyle: "medium" }),
    day: new Intl.DateTimeFormat(tag, { dateStyle: "short" }),
    tag,
  };
  if (keep) {
    try {
      localStorage.setItem(KEPT, next);
    } catch { /* it holds for this tab */ }
  }
  document.documentElement.lang = tag;
  now.value = next;
}

const pick = (pair) => pair[LANGUAGES.indexOf(now.value)];

/** The words for a key, with what is put in. */
export function t(key, values = {}) {
  let text = pick(words[key]);
  if (Array.isArray(text)) text = text[tools.plural.select(values.n) === "one" ? 0 : 1];
  return text.replace(/\{(\w+)\}/g, (_, name) => (typeof values[name] === "number" ? count(values[name]) : String(values[name])));
}

/** A word of a list that the service may add to: as it came where the page has none for it. */
export const word = (list, name) => (name && Object.hasOwn(words, `${list}.${name}`) ? t(`${list}.${name}`) : name || "");

/** What an error's code means, what to do, and whose fault it is; null for a code that is not known here. */
export function meaning(code) {
  if (!Object.hasOwn(failures, code)) return null;
  const [fault, title, advice] = failures[code];
  return { title: pick(title), advice: pick(advice), cause: t(`cause.${fault}`) };
}

const fixed = (value, digits) => value.toLocaleString(tools.tag, { minimumFractionDigits: digits, maximumFractionDigits: digits });

/** A whole number. */
export const count = (value) => value.toLocaleString(tools.tag, { maximumFractionDigits: 0 });

/** A metric for reading, as the report writes it: four decimals, or four digits where that would hide it. */
export function number(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number") return String(value);
  const size = Math.abs(value);
  if (value === 0) return "0";
  if (Number.isInteger(value) && size < 1e15) return count(value);
  if (size >= 1e6 || size < 1e-3) return value.toPrecision(4).replace(/\.?0+(?=e|$)/, "").replace("e+", "e");
  if (size >= 10) return fixed(value, Math.max(1, 5 - String(Math.trunc(size)).length));
  const shown = fixed(value, 4);
  // What is nearly 1 is not 1.
  return Number(shown) === Math.sign(value) ? String(value) : shown;
}

/** A number that changes while one looks, such as a rate: digits after the point only where it is small. */
export const rough = (value) => (value === null || value === undefined ? "–" : Math.abs(value) >= 10 || Number.isInteger(value) ? count(value) : fixed(value, 1));

/** A share, such as the level of an interval. */
export const percent = (value) => value.toLocaleString(tools.tag, { style: "percent", maximumSignificantDigits: 4 });

export function seconds(value) {
  if (typeof value !== "number") return "";
  if (value < 10) return t("time.seconds", { n: fixed(value, 1) });
  if (value < 120) return t("time.seconds", { n: Math.round(value) });
  const minutes = Math.round(value / 60);
  return minutes < 120 ? t("time.minutes", { n: minutes }) : t("time.hours", { n: fixed(minutes / 60, 1) });
}

/** Seconds of what may be over in a moment. */
export const brief = (value) => (value < 1 ? t("time.milliseconds", { n: Math.round(value * 1000) }) : seconds(value));

export function bytes(value) {
  if (typeof value !== "number") return "";
  if (value < 1024) return `${count(value)} B`;
  if (value < 1024 ** 2) return `${fixed(value / 1024, 1)} KiB`;
  return value < 1024 ** 3 ? `${fixed(value / 1024 ** 2, 1)} MiB` : `${fixed(value / 1024 ** 3, 1)} GiB`;
}

/** A moment: [as text, in full], or null for what is none. */
export function moment(text, short = false) {
  const when = new Date(text || "");
  if (Number.isNaN(when.getTime())) return null;
  const today = when.toDateString() === new Date().toDateString();
  return [short ? (today ? tools.clock : tools.day).format(when) : tools.long.format(when), tools.long.format(when)];
}

export const clock = (text) => {
  const when = new Date(text || "");
  return Number.isNaN(when.getTime()) ? "" : tools.clock.format(when);
};
