// Where a link from Prefect comes in: the record of a flow run.

import { html, useEffect } from "/static/preact.js";
import { go, to } from "/static/core/address.js";
import { t } from "/static/core/language.js";
import { useAsked } from "/static/core/live.js";
import { useTitle } from "/static/core/title.js";
import { Mono } from "/static/parts/basic.js";
import { placeOf } from "/static/parts/columns.js";
import { Refusal } from "/static/parts/failure.js";

export default function FlowRun({ id }) {
  // One that was started in Prefect is known when the service has looked there next.
  const { data, problem } = useAsked(`/tasks?flow_run=${encodeURIComponent(id)}`);
  const task = data?.tasks[0];
  useTitle(t("flow.title"));
  useEffect(() => {
    if (task) go(placeOf(task), { replace: true });
  }, [task?.id]);
  return html`<section class="card narrow" aria-labelledby="title"><h1 id="title">${t("flow.title")}</h1>
    <${Refusal} of=${problem} />
    ${data && !task && html`<p role="status">${t("flow.none")} <${Mono} text=${id} /></p>`}
    <p><a href=${to("records")}>${t("nav.records")}</a></p></section>`;
}
