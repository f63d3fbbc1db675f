// Why there is no score, as the report tells it: a sentence, whose cause, what to do, and the end of the log.

import { el, facts, lines, name, valueOf } from "./dom.js";
import { meaning, t, word } from "./language.js";

const MOST_PROBLEMS = 50;
const LOG_LINES = 200;

function problem(each) {
  if (!each || typeof each !== "object" || !("message" in each)) return el("li", {}, valueOf(each));
  const known = meaning(each.code);
  return el("li", {}, el("strong", {}, known ? known.title : name(each.code)), el("br"), el("span", { dir: "auto" }, String(each.message)));
}

/** An error of the catalogue, in full. */
export function failure(error) {
  const { problems, log, ...details } = error.details || {};
  const known = meaning(error.code);
  const many = Array.isArray(problems) && problems.length > 0;
  // Of many problems the message only strings together what stands in the list below.
  const listed = many && String(error.message).startsWith(`${problems.length} problems. `);
  const tail = Array.isArray(log) ? log.slice(-LOG_LINES).map(String).join("\n") : log ? String(log) : "";
  const more = many && problems.length > MOST_PROBLEMS ? t("value.more", { n: problems.length - MOST_PROBLEMS }) : null;
  return el("div", { class: "problem failure" },
    el("h3", { class: "first" }, known ? known.title : t("failure.title")),
    el("p", { class: "sentence", dir: "auto" }, listed ? t("failure.problems", { n: problems.length }) : String(error.message)),
    many ? el("ul", {}, ...problems.slice(0, MOST_PROBLEMS).map(problem), more && el("li", {}, more)) : null,
    facts([
      [t("failure.cause"), known?.cause],
      [t("failure.advice"), known?.advice],
      [t("failure.stage"), el("span", {}, word("stage", error.stage), " ", el("code", {}, name(error.code)))],
      ...Object.entries(details).map(([key, value]) => [name(key), valueOf(value)]),
    ]),
    tail ? el("p", { class: "label" }, t("failure.log")) : null,
    tail ? lines(tail) : null);
}
