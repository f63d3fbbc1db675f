// What every kind of work that is handed in is asked: which scorer with which params, where it runs, how soon.

import { html, useRef, useState } from "/static/preact.js";
import { change } from "/static/core/address.js";
import { ask } from "/static/core/api.js";
import { t, word } from "/static/core/language.js";
import { never, once, useAsked } from "/static/core/live.js";
import { paramsOf, written } from "/static/core/params.js";
import { newKey } from "/static/core/upload.js";
import { Fold } from "/static/parts/basic.js";
import { Choice } from "/static/parts/form-fields.js";
import { ParamFields } from "/static/parts/param-fields.js";
import { wasThere } from "/static/parts/task.js";

const PRIORITIES = ["normal", "high", "low"];
// Also where this host has them not: a worker may run elsewhere.
const BACKENDS = ["auto", "docker", "kubernetes", "bubblewrap", "process"];

const useScorers = () => useAsked("/scorers", { concerns: never, pause: once }).data?.scorers || [];

/** The backends that may be chosen, as [value, word] pairs; `among` are those that are allowed, or null for all. */
export function useBackends(among = null) {
  const { data, problem } = useAsked("/readyz", { concerns: never, pause: once });
  const here = (data || problem?.details)?.executors || {};
  const said = (name) => (name === "process" ? t("submit.backend.process") : here[name]?.state === "unavailable" ? t("submit.backend.away", { name }) : name);
  const allowed = BACKENDS.filter((name) => name === "auto" || (among ? among.includes(name) : name in here || name === "kubernetes"));
  return [["", t("submit.backend.default")], ...allowed.map((name) => [name, name === "auto" ? t("submit.backend.auto") : said(name)])];
}

/** A form's choice of a scorer and its params: what is shown, and what is sent.
 *
 * @param own The scorer that is taken where none is chosen, or an empty text where that is not known.
 * @param scorer The one that is chosen, or an empty text.
 */
export function useScoring(own, scorer) {
  const all = useScorers();
  const [values, set] = useState({});
  const [isTold, tell] = useState(false);
  const one = all.find((each) => each.id === (scorer || own));
  const { params, problems } = one ? written(paramsOf(one.params_schema), values) : { params: {}, problems: {} };
  // meta.json may have what is needed.
  const wrong = Object.fromEntries(Object.entries(problems).filter(([name]) => values[name]?.length));
  return {
    all, one, values, set, problems: isTold ? wrong : {},
    /** What is sent of it; null where something is wrong, which is shown from then on. */
    asked() {
      tell(true);
      if (Object.keys(wrong).length) {
        requestAnimationFrame(() => document.querySelector("#scoring-params [aria-invalid='true']")?.focus());
        return null;
      }
      return { ...(scorer ? { scorer } : {}), ...(Object.keys(params).length ? { params } : {}) };
    },
  };
}

/** Which scorer. `own` is the one that is taken where none is chosen. */
export function ScorerChoice({ scoring, own, scorer }) {
  const onChange = (next) => {
    // Params of another one mean nothing to it.
    scoring.set({});
    change({ scorer: next }, { replace: true });
  };
  const options = scoring.all.map((each) => [each.id, `${each.id} ${each.version}`]);
  if (scorer && !scoring.one) options.push([scorer, scorer]);
  return html`<${Choice} id="scorer" label=${t("submit.scorer")} value=${scorer} onChange=${onChange}
    of=${[["", own ? t("submit.scorer.own", { name: own }) : t("submit.scorer.each")], ...options]} />`;
}

/** The params of the scorer that is taken. */
export function ScorerParams({ scoring }) {
  const changed = Object.values(scoring.values).filter((value) => value?.length).length;
  const wasWrong = useRef(false);
  // Once open for what is wrong it stays so: what is mended must not fold under the fingers.
  wasWrong.current ||= Object.keys(scoring.problems).length > 0;
  if (!scoring.one) return null;
  return html`<div id="scoring-params"><${Fold} open=${wasWrong.current} summary=${changed ? t("submit.params.changed", { n: changed }) : t("submit.params")}>${() => html`
    <p class="muted">${t("submit.params.what")}</p>
    <${ParamFields} schema=${scoring.one.params_schema} values=${scoring.values} problems=${scoring.problems} onChange=${scoring.set} />`}</></div>`;
}

export const Priority = ({ value, onChange }) => html`<${Choice} id="priority" label=${t("task.priority")} value=${value} onChange=${onChange}
  of=${PRIORITIES.map((each) => [each, each === "normal" ? t("submit.priority.normal") : word("priority", each)])} />`;

// What was asked for last and got no answer: it may have been accepted.
let unanswered = { asked: "", key: "" };

/** Ask for work. Asked for again after its answer was lost, it is the same work. */
export async function handIn(path, body) {
  const asked = `${path} ${JSON.stringify(body)}`;
  const key = unanswered.asked === asked ? unanswered.key : newKey();
  unanswered = { asked, key };
  try {
    const heed = (headers) => { if (headers.get("X-Task-Created") === "false") wasThere.value = headers.get("Location"); };
    wasThere.value = "";
    const data = await ask(path, { method: "POST", body, headers: { "Idempotency-Key": key }, onHeaders: heed });
    unanswered = { asked: "", key: "" };
    return data;
  } catch (error) {
    if (error.status) unanswered = { asked: "", key: "" };
    throw error;
  }
}

/** What was asked for and how it went: {isBusy, problem, attempt}; `attempt` does work that may be refused. */
export function useAttempt() {
  const [state, set] = useState({ isBusy: false, problem: null });
  const attempt = async (work) => {
    set({ isBusy: true, problem: null });
    try {
      await work();
      set({ isBusy: false, problem: null });
    } catch (problem) {
      set({ isBusy: false, problem });
    }
  };
  return { ...state, attempt };
}
