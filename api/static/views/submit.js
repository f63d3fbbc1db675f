// Handing work in: a workspace, a submission to a benchmark, many workspaces, or one answer. Which of them stands in the address.

import { html, useEffect, useRef } from "/static/preact.js";
import { chosen, route, to } from "/static/core/address.js";
import { t } from "/static/core/language.js";
import { useTitle } from "/static/core/title.js";
import { AnswerForm } from "/static/views/submit/answer.js";
import { BatchForm } from "/static/views/submit/batch.js";
import { BenchmarkForm } from "/static/views/submit/benchmark.js";
import { WorkspaceForm } from "/static/views/submit/workspace.js";

const KINDS = {
  workspace: ["submit.kind.workspace", WorkspaceForm],
  benchmark: ["submit.kind.benchmark", BenchmarkForm],
  batch: ["submit.kind.batch", BatchForm],
  answer: ["submit.kind.answer", AnswerForm],
};

/** An address that names a benchmark alone means that kind. */
const kindOf = (query) => (!query.has("kind") && query.get("benchmark") ? "benchmark" : chosen(query, "kind", Object.keys(KINDS)));

export default function Submit() {
  const kind = kindOf(route.value.query);
  const title = useRef(null);
  const [word, Form] = KINDS[kind];
  useTitle(`${t("submit.title")}: ${t(word)}`);
  useEffect(() => title.current.focus(), []);
  return html`<article id="submit" class="card" aria-labelledby="title">
    <h1 id="title" ref=${title} tabindex="-1">${t("submit.title")}</h1>
    <nav class="tabs" aria-label=${t("submit.kinds")}>${Object.entries(KINDS).map(([name, [each]]) => html`
      <a key=${name} href=${to("submit", "", { kind: name })} aria-current=${name === kind ? "page" : null}>${t(each)}</a>`)}</nav>
    <${Form} key=${kind} />
  </article>`;
}
