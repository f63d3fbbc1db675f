// One answer of a retrieval-augmented system, written in by hand.

import { html, useState } from "/static/preact.js";
import { go, to } from "/static/core/address.js";
import { t } from "/static/core/language.js";
import { never, once, useAsked } from "/static/core/live.js";
import { paramsOf } from "/static/core/params.js";
import { Failure, Refusal } from "/static/parts/failure.js";
import { Area, Several, Text } from "/static/parts/form-fields.js";
import { Priority, handIn, useAttempt } from "/static/views/submit/choices.js";

const MOST_PASSAGES = 200;

/** The names of the metrics, as the scorer of whole tables takes them. */
function useMetrics() {
  const { data, problem } = useAsked("/scorers/rag", { concerns: never, pause: once });
  return [paramsOf(data?.params_schema).find((each) => each.name === "metrics")?.choices || [], problem];
}

function Passages({ value, onChange }) {
  const put = (index, text) => onChange(value.map((each, at) => (at === index ? text : each)));
  const remove = (index) => {
    onChange(value.filter((_, at) => at !== index));
    document.querySelector("#passage-more").focus();
  };
  return html`<fieldset class="passages"><legend>${t("answer.contexts")}</legend><p class="hint">${t("answer.contexts.hint")}</p>
    ${value.map((each, index) => html`<div class="passage" key=${index}>
      <${Area} id=${`passage-${index}`} label=${t("answer.context", { n: index + 1 })} value=${each} rows="2" onInput=${(text) => put(index, text)} />
      ${value.length > 1 && html`<button type="button" class="quiet" onClick=${() => remove(index)}
        aria-label=${t("answer.context.remove", { n: index + 1 })}>×</button>`}</div>`)}
    <p class="buttons"><button type="button" id="passage-more" disabled=${value.length >= MOST_PASSAGES}
      onClick=${() => onChange([...value, ""])}>${t("answer.context.more")}</button></p></fieldset>`;
}

export function AnswerForm() {
  const [names, away] = useMetrics();
  const [question, setQuestion] = useState("");
  const [answer, setAnswer] = useState("");
  const [passages, setPassages] = useState([""]);
  const [truth, setTruth] = useState("");
  const [metrics, setMetrics] = useState([]);
  const [judge, setJudge] = useState("");
  const [priority, setPriority] = useState("normal");
  const [told, tell] = useState(false);
  const { isBusy, problem, attempt } = useAttempt();
  const submit = (event) => {
    event.preventDefault();
    tell(true);
    if (!question.trim()) {
      document.querySelector("#question-text").focus();
      return;
    }
    const contexts = passages.filter((each) => each.trim());
    const body = {
      question, answer, priority, ...(contexts.length ? { contexts } : {}), ...(truth.trim() ? { ground_truth: truth } : {}),
      ...(metrics.length ? { metrics } : {}), ...(judge.trim() ? { judge_model: judge.trim() } : {}),
    };
    attempt(async () => go(to("job", (await handIn("/api/score/async", body)).job_id)));
  };
  return html`<form id="answer-form" class="stacked" onSubmit=${submit} aria-label=${t("submit.kind.answer")}>
    <${Area} id="question-text" label=${t("answer.question")} value=${question} rows="2"
      problem=${told && !question.trim() && t("answer.question.missing")} onInput=${setQuestion} />
    <${Area} id="answer-text" label=${t("answer.answer")} value=${answer} onInput=${setAnswer} />
    <${Passages} value=${passages} onChange=${setPassages} />
    <${Area} id="reference" label=${t("answer.reference")} value=${truth} rows="2" hint=${t("answer.reference.hint")} onInput=${setTruth} />
    <${Refusal} of=${away} />
    ${names.length > 0 && html`<${Several} id="metrics" label=${t("answer.metrics")} hint=${t("answer.metrics.hint")} value=${metrics} of=${names}
      onChange=${setMetrics} />`}
    <div class="fields"><${Text} id="judge" label=${t("answer.judge")} value=${judge} maxlength="200" hint=${t("answer.judge.hint")} onInput=${setJudge} />
      <${Priority} value=${priority} onChange=${setPriority} /></div>
    <p class="buttons"><button type="submit" id="submit-answer" disabled=${isBusy}>${t("answer.go")}</button></p>
    ${problem && html`<div role="alert"><${Failure} error=${problem} /></div>`}
  </form>`;
}
