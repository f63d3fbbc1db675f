// Many workspaces as one task.

import { html, useState } from "/static/preact.js";
import { change, chosen, go, route, to } from "/static/core/address.js";
import { t, word } from "/static/core/language.js";
import { Fold } from "/static/parts/basic.js";
import { Failure } from "/static/parts/failure.js";
import { Area, Choice, Text } from "/static/parts/form-fields.js";
import { WorkspaceSearch } from "/static/parts/workspace-search.js";
import { Priority, ScorerChoice, ScorerParams, handIn, useAttempt, useBackends, useScoring } from "/static/views/submit/choices.js";

const ACTIONS = ["pipeline", "score"];
const MOST_AT_ONCE = 64;

const linesOf = (text) => text.split("\n").map((line) => line.trim()).filter(Boolean);

export function BatchForm() {
  const { query } = route.value;
  const action = chosen(query, "action", ACTIONS);
  const scorer = query.get("scorer") || "";
  const [lines, setLines] = useState(() => query.getAll("workspace").join("\n"));
  const [atOnce, setAtOnce] = useState("");
  const [backend, setBackend] = useState("");
  const [priority, setPriority] = useState("normal");
  const [told, tell] = useState(false);
  const scoring = useScoring("", scorer);
  const backends = useBackends();
  const { isBusy, problem, attempt } = useAttempt();
  const all = linesOf(lines);
  const isOutside = Boolean(atOnce) && !(Number.isInteger(Number(atOnce)) && Number(atOnce) >= 1 && Number(atOnce) <= MOST_AT_ONCE);
  const submit = (event) => {
    event.preventDefault();
    tell(true);
    const asked = scoring.asked();
    if (!all.length || isOutside || !asked) return;
    const where = action !== "score" && backend ? { backend } : {};
    const body = { workspaces: all, action, priority, ...asked, ...where, ...(atOnce ? { concurrency: Number(atOnce) } : {}) };
    attempt(async () => go(to("record", (await handIn("/batch", body)).id)));
  };
  const add = (each) => { if (!all.includes(each.name)) setLines([...all, each.name].join("\n")); };
  return html`<form id="batch" onSubmit=${submit} aria-label=${t("submit.kind.batch")}>
    <${Area} id="workspaces" label=${t("submit.workspaces")} value=${lines} rows="6" spellcheck=${false}
      hint=${html`${t("submit.workspaces.hint")} ${all.length > 0 && t("submit.workspaces.count", { n: all.length })}`}
      problem=${told && !all.length && t("submit.workspaces.missing")} onInput=${setLines} />
    <${Fold} summary=${t("submit.workspaces.add")}>${() => html`<${WorkspaceSearch} onPick=${add} />`}</>
    <div class="fields">
      <${Choice} id="action" label=${t("task.action")} value=${action} of=${ACTIONS.map((each) => [each, word("action", each)])} hint=${t(`what.${action}`)}
        onChange=${(next) => change({ action: next }, { replace: true })} />
      <${ScorerChoice} scoring=${scoring} own="" scorer=${scorer} />
      <${Text} id="concurrency" label=${t("submit.once")} value=${atOnce} inputmode="numeric" placeholder="2" hint=${t("submit.once.hint", { most: MOST_AT_ONCE })}
        problem=${told && isOutside && t("param.range")} onInput=${(value) => setAtOnce(value.trim())} />
      ${action !== "score" && html`<${Choice} id="backend" label=${t("submit.backend")} value=${backend} of=${backends} onChange=${setBackend} />`}
      <${Priority} value=${priority} onChange=${setPriority} />
    </div>
    <${ScorerParams} scoring=${scoring} />
    <p class="buttons"><button type="submit" id="submit-batch" disabled=${isBusy}>${t("submit.go")}</button></p>
    ${problem && html`<div role="alert"><${Failure} error=${problem} /></div>`}
  </form>`;
}
