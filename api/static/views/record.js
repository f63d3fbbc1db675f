// A record: what came of it first, then the numbers, then how it came about.

import { html, useEffect, useRef, useState } from "/static/preact.js";
import { go, to } from "/static/core/address.js";
import { act } from "/static/core/api.js";
import { t, word } from "/static/core/language.js";
import { useAsked } from "/static/core/live.js";
import { useTitle } from "/static/core/title.js";
import { Chip, Name, Part, Value } from "/static/parts/basic.js";
import { confirmed } from "/static/parts/dialog.js";
import { Failure, Refusal } from "/static/parts/failure.js";
import { FileLink, Files, Plots, useFiles } from "/static/parts/files.js";
import { Log } from "/static/parts/log.js";
import { MemberList } from "/static/parts/member-list.js";
import { Members, Places } from "/static/parts/members.js";
import { NotesByPeople, useNotes } from "/static/parts/notes.js";
import { About, Params, Provenance } from "/static/parts/provenance.js";
import { Headline, Metrics, Notes, isResult } from "/static/parts/result.js";
import { Samples } from "/static/parts/samples.js";
import { Stages } from "/static/parts/stages.js";
import { ended, isActive, nameOf, wasThere } from "/static/parts/task.js";

function Progress({ of: { done, total } }) {
  const said = t("detail.done", { done, total });
  return html`<progress value=${done} max=${Math.max(total, 1)} aria-label=${said} /><p class="muted">${said}</p>`;
}

function Buttons({ task, files, onDone }) {
  const [problem, tell] = useState(null);
  const tried = async (work) => {
    tell(null);
    try {
      return await work();
    } catch (error) {
      tell(error);
      return null;
    } finally {
      onDone();
    }
  };
  const path = `/tasks/${encodeURIComponent(task.id)}`;
  const cancel = async () => {
    const text = t("confirm.text", { action: word("action", task.action), name: nameOf(task) });
    if (await confirmed(text, t("confirm.yes"), t("confirm.no"))) await tried(() => act(`${path}/cancel`));
  };
  const retry = async () => {
    const again = await tried(() => act(`${path}/retry`));
    if (again) go(to("record", again.id));
  };
  const report = files.all.find((file) => file.kept && file.file === "report.html");
  return html`<p class="buttons">
      ${report && files.base && html`<${FileLink} file=${report} base=${files.base} look="button">${t("files.report")}</>`}
      ${isActive(task)
        ? html`<button type="button" id="cancel" disabled=${task.state === "cancelling"} onClick=${cancel}>${t("detail.cancel")}</button>`
        : html`<button type="button" id="retry" onClick=${retry}>${t("detail.retry")}</button>`}</p>
    <${Refusal} of=${problem} />`;
}

function Outcome({ task }) {
  if (task.error) return html`<${Failure} error=${task.error} />`;
  if (isResult(task)) return html`<${Headline} result=${task.result} />`;
  return html`<p><${Chip} state=${ended(task)} /> ${isActive(task) && task.stage && word("stage", task.stage)}</p>`;
}

export default function Record({ id }) {
  const path = `/tasks/${encodeURIComponent(id)}`;
  const { data: task, problem, again } = useAsked(path, { concerns: (event) => event.id === id });
  const isBatch = task?.action === "batch";
  const batch = useAsked(isBatch ? `/batch/${encodeURIComponent(id)}` : null, { concerns: (event) => event.id === id });
  const files = useFiles(task);
  const notes = useNotes(task ? id : null);
  const title = useRef(null);
  const before = useRef("");
  const [said, say] = useState("");
  const name = task ? nameOf(task) : "";
  useTitle(name);
  useEffect(() => {
    title.current?.focus();
    return () => { wasThere.value = ""; };
  }, [id]);
  const now = task ? ended(task) : "";
  useEffect(() => {
    if (before.current && before.current !== now) say(t("detail.said", { name, state: word("state", now) }));
    before.current = now;
  }, [now]);
  return html`<article id="record" class="card" aria-labelledby="title">
    <p class="crumb"><a href=${to("records")}>${t("nav.records")}</a>${task?.parent && html` › <a id="batch-of" href=${to("record", task.parent)}>${t("batch.title")}</a>`}</p>
    <h1 id="title" ref=${title} tabindex="-1">${name || problem ? html`<${Name} text=${name || id} />` : "…"}</h1>
    <p id="said" class="unseen" role="status">${said}</p>
    <${Refusal} of=${problem} />
    ${wasThere.value === path && html`<p class="notice" role="status">${t("record.there")}</p>`}
    ${task && html`<div id="detail">
      <${Outcome} task=${task} />
      ${task.progress && isActive(task) && html`<${Progress} of=${task.progress} />`}
      <${Buttons} task=${task} files=${files} onDone=${again} />
      ${batch.data && html`<${Members} batch=${batch.data} /><${MemberList} batch=${id} done=${batch.data.summary.done} /><${Places} batch=${batch.data} />`}
      ${isResult(task) && html`<${Plots} task=${task} files=${files} /><${Metrics} result=${task.result} /><${Notes} result=${task.result} /><${Samples} task=${task} notes=${notes} /><${Files} files=${files} />`}
      ${!isResult(task) && task.result && !isBatch && html`<${Part} title=${t("found.title")}><${Value} of=${task.result} /></>`}
      <${NotesByPeople} notes=${notes} />
      ${task.parent ? html`<${Part} title=${t("log.title")}><p><a href=${to("record", task.parent)}>${t("members.log")}</a></p></>` : html`<${Log} task=${task.id} goesOn=${isActive(task)} />`}
      <${Stages} task=${task} />
      <${Params} task=${task} /><${About} task=${task} /><${Provenance} task=${task} />
    </div>`}
  </article>`;
}
