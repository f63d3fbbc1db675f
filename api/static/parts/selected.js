// What is done with several records at once.

import { html, useState } from "/static/preact.js";
import { to } from "/static/core/address.js";
import { act } from "/static/core/api.js";
import { t } from "/static/core/language.js";
import { confirmed } from "/static/parts/dialog.js";
import { isActive } from "/static/parts/task.js";

const path = (task, verb) => (task.action === "rag-score" ? `/api/score/jobs/${task.id}/${verb}` : `/tasks/${task.id}/${verb}`);

const canRescore = (task) => task.workspace && !isActive(task) && ["score", "pipeline"].includes(task.action) && !task.benchmark;

/** A bar of what can be done with these; nothing where none is chosen. */
export function Selected({ tasks, onDone }) {
  const [said, say] = useState("");
  const active = tasks.filter(isActive);
  const over = tasks.filter((task) => !isActive(task));
  const again = tasks.filter(canRescore);
  const each = async (some, work) => {
    const answers = await Promise.allSettled(some.map(work));
    const refused = answers.filter((answer) => answer.status === "rejected");
    say([t("selected.done", { n: some.length - refused.length }), ...new Set(refused.map((answer) => answer.reason.message))].join(" "));
    onDone();
  };
  const cancel = async () => {
    if (!await confirmed(t("selected.question", { n: active.length }), t("confirm.yes"), t("confirm.no"))) return;
    await each(active, (task) => (task.action === "rag-score" ? act(`/api/score/jobs/${task.id}`, undefined, "DELETE") : act(path(task, "cancel"))));
  };
  const compared = tasks.length === 2 && tasks.every((task) => task.outcome);
  return html`<div role="status">${said && !tasks.length && html`<p class="muted">${said}</p>`}</div>
    ${tasks.length > 0 && html`<div id="selected" class="buttons" role="group" aria-label=${t("selected.label")}>
      <span>${t("selected.count", { n: tasks.length })}</span>
      ${compared && html`<a class="button" id="compare" href=${to("compare", "", { a: tasks[0].id, b: tasks[1].id })}>${t("selected.compare")}</a>`}
      ${over.length > 0 && html`<button type="button" id="again" onClick=${() => each(over, (task) => act(path(task, "retry")))}>${t("detail.retry")} (${over.length})</button>`}
      ${again.length > 0 && html`<button type="button" id="rescore" onClick=${() => each(again, (task) => act("/submit", { action: "score", workspace: task.workspace, scorer: task.scorer, params: task.params }))}>${t("selected.rescore")} (${again.length})</button>`}
      ${active.length > 0 && html`<button type="button" id="cancel-all" onClick=${cancel}>${t("detail.cancel")} (${active.length})</button>`}
    </div>`}`;
}
