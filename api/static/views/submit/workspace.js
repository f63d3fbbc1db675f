// One workspace: one that is there, or one that is uploaded; then what is done with it.

import { html, useEffect, useRef, useState } from "/static/preact.js";
import { change, chosen, go, route, to } from "/static/core/address.js";
import { bytes, count, t, word } from "/static/core/language.js";
import { once, useAsked } from "/static/core/live.js";
import { Chip, Facts, Figure, Name } from "/static/parts/basic.js";
import { Failure, Refusal } from "/static/parts/failure.js";
import { Choice, Ways } from "/static/parts/form-fields.js";
import { ended, isActive } from "/static/parts/task.js";
import { WorkspaceSearch, workspacePath } from "/static/parts/workspace-search.js";
import { Priority, ScorerChoice, ScorerParams, handIn, useAttempt, useBackends, useScoring } from "/static/views/submit/choices.js";
import { WorkspaceUpload } from "/static/views/submit/upload.js";

const ACTIONS = ["pipeline", "score", "run", "validate"];
const FROM = ["there", "archive", "folder"];

/** What was found by a check, as it comes. */
function Checked({ id }) {
  const { data: task, problem } = useAsked(`/tasks/${encodeURIComponent(id)}`);
  if (!task) return html`<${Refusal} of=${problem} />`;
  const purposes = task.result?.valid_for || [];
  const isGood = task.state === "completed";
  return html`<div id="checked" class="checked" aria-live="polite">
    ${isActive(task) && html`<p><${Chip} state=${task.state} /> ${t("submit.checking")}</p>`}
    ${isGood && html`<p class="good">${t(purposes.includes("pipeline") ? "submit.good.pipeline" : "submit.good.score")}</p>`}
    ${isGood && html`<${Facts} of=${[[t("task.scorer"), task.result?.scorer && html`<${Name} text=${task.result.scorer} />`], [t("provenance.image"), task.result?.image && html`<${Name} text=${task.result.image} />`]]} />`}
    ${task.error && html`<${Failure} error=${task.error} />`}
    ${!isActive(task) && !isGood && !task.error && html`<p><${Chip} state=${ended(task)} /></p>`}
    <p><a href=${to("record", task.id)}>${t("submit.check.record")}</a></p></div>`;
}

function Chosen({ workspace, uploaded }) {
  const title = useRef(null);
  useEffect(() => title.current.focus(), [workspace.name]);
  return html`<section class="chosen">
    <h2 id="chosen" ref=${title} tabindex="-1"><${Name} text=${workspace.name} /></h2>
    ${uploaded && html`<p class="good" role="status">${t("submit.uploaded", { files: count(uploaded.files), size: bytes(uploaded.size) })}</p>`}
    ${uploaded?.left_out.length > 0 && html`<p class="muted">${t("submit.left")} <bdi>${uploaded.left_out.join(", ")}</bdi></p>`}
    <${Facts} of=${[
      [t("task.scorer"), workspace.scorer && html`<${Name} text=${workspace.scorer} />`],
      [t("submit.truth"), t(workspace.has_ground_truth ? "value.yes" : "value.no")],
      [t("submit.predictions"), t(workspace.has_predictions ? "value.yes" : "value.no")],
      [t("submit.last"), workspace.score !== null && html`<${Figure} value=${workspace.score} />`],
      [t("submit.wrong"), workspace.error && html`<${Name} text=${workspace.error} />`],
    ]} />
    <p class="buttons"><button type="button" id="choose-other" onClick=${() => change({ workspace: "" })}>${t("submit.other")}</button>
      <a href=${to("workspace", workspace.name)}>${t("submit.open")}</a></p></section>`;
}

function Work({ workspace }) {
  const { query } = route.value;
  const action = chosen(query, "action", ACTIONS);
  const scorer = action === "run" ? "" : query.get("scorer") || "";
  const scoring = useScoring(workspace.scorer || "", scorer);
  const backends = useBackends();
  const [backend, setBackend] = useState("");
  const [priority, setPriority] = useState("normal");
  const [check, setCheck] = useState("");
  const submitting = useAttempt();
  const checking = useAttempt();
  const runs = action !== "score";
  const body = () => {
    const asked = action === "run" ? {} : scoring.asked();
    return asked && { workspace: workspace.name, ...asked, ...(runs && backend ? { backend } : {}) };
  };
  const submit = (event) => {
    event.preventDefault();
    const asked = body();
    if (asked) submitting.attempt(async () => go(to("record", (await handIn("/submit", { ...asked, action, priority })).id)));
  };
  const onCheck = () => {
    const asked = body();
    setCheck("");
    if (asked) checking.attempt(async () => setCheck((await handIn("/validate?wait=0", { ...asked, for: action === "score" ? "score" : "pipeline" })).id));
  };
  return html`<form id="work" onSubmit=${submit} aria-label=${t("submit.what")}>
    <div class="fields">
      <${Choice} id="action" label=${t("task.action")} value=${action} hint=${t(`what.${action}`)} of=${ACTIONS.map((each) => [each, word("action", each)])}
        onChange=${(next) => change({ action: next }, { replace: true })} />
      ${action !== "run" && html`<${ScorerChoice} scoring=${scoring} own=${workspace.scorer} scorer=${scorer} onChange=${(next) => { scoring.set({}); change({ scorer: next }, { replace: true }); }} />`}
      ${runs && html`<${Choice} id="backend" label=${t("submit.backend")} value=${backend} of=${backends} onChange=${setBackend} />`}
      <${Priority} value=${priority} onChange=${setPriority} />
    </div>
    ${action !== "run" && html`<${ScorerParams} scoring=${scoring} />`}
    <p class="buttons"><button type="submit" id="submit-work" disabled=${submitting.isBusy}>${t("submit.go")}</button>
      ${action !== "validate" && html`<button type="button" id="check-first" disabled=${checking.isBusy} onClick=${onCheck}>${t("submit.check")}</button>`}</p>
    ${[submitting.problem, checking.problem].filter(Boolean).map((problem) => html`<div role="alert"><${Failure} error=${problem} /></div>`)}
    ${check && html`<${Checked} key=${check} id=${check} />`}
  </form>`;
}

export function WorkspaceForm() {
  const { query } = route.value;
  const name = query.get("workspace") || "";
  const from = chosen(query, "from", FROM);
  const { data: workspace, problem } = useAsked(name ? workspacePath(name) : null, { pause: once });
  const [uploaded, setUploaded] = useState(null);
  const onUploaded = (data) => {
    setUploaded(data);
    change({ workspace: data.workspace.name, from: "" });
  };
  if (!name) {
    return html`<${Ways} name="from" label=${t("submit.from")} value=${from} of=${[["there", t("submit.from.there")], ["archive", t("submit.from.archive")], ["folder", t("submit.from.folder")]]}
      onChange=${(next) => change({ from: next === "there" ? "" : next }, { replace: true })} />
      ${from === "there" ? html`<${WorkspaceSearch} onPick=${(each) => change({ workspace: each.name })} />` : html`<${WorkspaceUpload} key=${from} from=${from} onUploaded=${onUploaded} />`}`;
  }
  return html`<${Refusal} of=${problem} />
    ${problem && html`<p class="buttons"><button type="button" id="choose-other" onClick=${() => change({ workspace: "" })}>${t("submit.other")}</button></p>`}
    ${workspace && html`<${Chosen} workspace=${workspace} uploaded=${uploaded?.workspace.name === workspace.name ? uploaded : null} /><${Work} key=${workspace.name} workspace=${workspace} />`}`;
}
