// What people say of a record, of a sample, or of a claim: read, written, agreed with.

import { html, useEffect, useRef, useState } from "/static/preact.js";
import { change, route } from "/static/core/address.js";
import { act } from "/static/core/api.js";
import { t, word } from "/static/core/language.js";
import { useAsked } from "/static/core/live.js";
import { Muted, Name, Part, Time } from "/static/parts/basic.js";
import { confirmed } from "/static/parts/dialog.js";
import { Refusal } from "/static/parts/failure.js";

const MOST = 500;
const LONGEST = 2000;
const PAUSE = 10000;
const VERDICTS = ["agree", "disagree"];

/** The notes on a task, and what can be done with them.
 *
 * @returns {task, all, total, problem, refused, write, remove}: `problem` says why there are none, `refused` what was not done.
 */
export function useNotes(task) {
  const path = `/tasks/${encodeURIComponent(task)}/notes`;
  const { data, problem, again } = useAsked(task ? `${path}?limit=${MOST}` : null, { pause: () => PAUSE });
  const [refused, tell] = useState(null);
  const tried = async (work) => {
    tell(null);
    try {
      await work();
      return true;
    } catch (error) {
      tell(error);
      return false;
    } finally {
      again();
    }
  };
  return {
    task, all: data?.notes || [], total: data?.total || 0, isThere: Boolean(data), problem, refused, tried, path,
    write: (body) => tried(() => act(path, body)),
    remove: (id) => tried(() => act(`${path}/${encodeURIComponent(id)}`, undefined, "DELETE")),
  };
}

const isAbout = (note, sample, metric) => note.sample === sample && (note.metric || null) === (metric || null);

/** Agree or disagree with what the scoring says of a sample; a second press takes it back. */
export function Verdicts({ notes, sample, metric, label }) {
  if (!notes?.isThere) return null;
  const there = notes.all.filter((note) => note.verdict && isAbout(note, sample, metric));
  const own = there.filter((note) => note.own && !note.text);
  const counts = Object.fromEntries(VERDICTS.map((each) => [each, there.filter((note) => note.verdict === each).length]));
  const press = (verdict) => notes.tried(async () => {
    const has = own.some((note) => note.verdict === verdict);
    if (!has) await act(notes.path, { sample, ...(metric ? { metric } : {}), verdict });
    for (const note of own) await act(`${notes.path}/${encodeURIComponent(note.id)}`, undefined, "DELETE");
  });
  return html`<span class="verdicts" role="group" aria-label=${label || sample}>
    ${VERDICTS.map((each) => html`<button type="button" class="quiet" data-verdict=${each} aria-pressed=${own.some((note) => note.verdict === each)} onClick=${() => press(each)}>${t(`note.${each}`)}</button>`)}
    ${there.length > 0 && html`<span class="small muted">${t("note.counts", counts)}</span>`}</span>`;
}

function Note({ note, notes }) {
  const remove = async () => {
    if (await confirmed(t("note.delete.text"), t("job.forget.yes"), t("job.forget.no"))) await notes.remove(note.id);
  };
  const who = note.own ? t("note.you") : note.team ? t("note.team", { team: note.team }) : word("noterole", note.role);
  return html`<li class="note" data-id=${note.id}>
    <p class="note-head">${note.verdict && html`<span class="state ${note.verdict === "agree" ? "passed" : "unpassed"}">${t(`note.${note.verdict}`)}</span>`}
      ${note.sample !== null && html`<strong><${Name} text=${note.sample} /></strong>`}
      ${note.metric && !note.sample.startsWith(`${note.metric}.`) && html`<span><${Name} text=${note.metric} /></span>`}
      <${Muted}><${Name} text=${who} /> · <${Time} text=${note.created_at} />${note.of_truth && ` · ${t("note.private")}`}</>
      <button type="button" class="quiet" aria-label=${t("note.delete")} title=${t("note.delete")} onClick=${remove}>×</button></p>
    ${note.text && html`<p class="sentence" dir="auto">${note.text}</p>`}</li>`;
}

function Form({ notes }) {
  const field = useRef(null);
  const [verdict, choose] = useState("");
  const [isEmpty, setEmpty] = useState(false);
  const about = route.value.query.get("note") || "";
  useEffect(() => { if (about) field.current?.focus(); }, [about]);
  const submit = async (event) => {
    event.preventDefault();
    const text = field.current.value.trim();
    setEmpty(!text && !verdict);
    if (!text && !verdict) return field.current.focus();
    if (!await notes.write({ text, ...(about ? { sample: about } : {}), ...(verdict ? { verdict } : {}) })) return undefined;
    field.current.value = "";
    choose("");
    return change({ note: "" }, { replace: true });
  };
  return html`<form id="note-form" onSubmit=${submit} aria-label=${t("note.text")}>
    ${about && html`<p><span class="tag">${t("note.about", { sample: "" })}<${Name} text=${about} />
      <button type="button" class="quiet" aria-label=${t("note.about.none")} title=${t("note.about.none")} onClick=${() => change({ note: "" }, { replace: true })}>×</button></span></p>`}
    <label class="field"><span>${t("note.text")}</span>
      <textarea id="note-text" ref=${field} rows="3" maxlength=${LONGEST} placeholder=${t("note.hint")} aria-describedby=${isEmpty ? "note-empty" : null}></textarea></label>
    <div class="choices"><label class="field"><span>${t("note.verdict")}</span>
      <select id="note-verdict" value=${verdict} onChange=${(event) => choose(event.target.value)}>
        <option value="">${t("note.verdict.none")}</option>${VERDICTS.map((each) => html`<option value=${each}>${t(`note.${each}`)}</option>`)}</select></label>
      <button type="submit">${t("note.add")}</button></div>
    ${isEmpty && html`<p id="note-empty" class="problem" role="alert">${t("note.empty")}</p>`}
  </form>`;
}

/** All notes on a task, and a form for one more. */
export function NotesByPeople({ notes }) {
  if (notes.problem) return html`<${Part} title=${t("note.title")} id="notes"><p class="muted">${t("note.hidden", { reason: notes.problem.message })}</p></>`;
  if (!notes.isThere) return null;
  return html`<${Part} title=${t("note.title")} id="notes">
    <${Refusal} of=${notes.refused} />
    ${notes.all.length ? html`<ul class="notes">${notes.all.map((note) => html`<${Note} key=${note.id} note=${note} notes=${notes} />`)}</ul>` : html`<p class="muted">${t("note.none")}</p>`}
    ${notes.total > notes.all.length && html`<p class="muted">${t("note.left", { n: notes.all.length, total: notes.total })}</p>`}
    <${Form} notes=${notes} /></>`;
}
