// A submission to a benchmark: a file of predictions, the archive of an image, or an image by its name.

import { html, useState } from "/static/preact.js";
import { change, chosen, encoded, go, route, to } from "/static/core/address.js";
import { bytes, count, t } from "/static/core/language.js";
import { never, once, useAsked } from "/static/core/live.js";
import { Facts, Name, Time } from "/static/parts/basic.js";
import { Failure, Refusal } from "/static/parts/failure.js";
import { Choice, Text, Ways } from "/static/parts/form-fields.js";
import { Sending, useSending } from "/static/parts/sending.js";
import { handIn, useAttempt, useBackends } from "/static/views/submit/choices.js";

const TABLES = /\.(csv|json|jsonl|parquet)$/i;
const IMAGES = /\.(tar|tgz|tar\.gz)$/i;

const benchmarkPath = (name) => `/benchmarks/${encoded(name)}`;

function About({ of: benchmark }) {
  const { left } = benchmark;
  const now = benchmark.phases.find((phase) => new Date(phase.start || 0) <= new Date() && (!phase.end || new Date() < new Date(phase.end)));
  const known = (value) => typeof value === "number";
  return html`<${Facts} of=${[
    [t("submit.about"), html`<a href=${to("benchmark", benchmark.name)}><${Name} text=${benchmark.title || benchmark.name} /></a>`],
    [t("task.scorer"), benchmark.scorer && html`<${Name} text=${benchmark.scorer} />`],
    [t("submit.open.now"), t(benchmark.is_open ? "value.yes" : "value.no")],
    [t("submit.phase"), now && html`<${Name} text=${now.name} /> ${now.end && html`<span class="muted">${t("submit.until")} <${Time} text=${now.end} /></span>`}`],
    [t("submit.left.today"), known(left?.left_today) && count(left.left_today)],
    [t("submit.left.all"), known(left?.left) && count(left.left)],
    [t("submit.left.next"), left?.next_at && html`<${Time} text=${left.next_at} />`],
  ]} />`;
}

function Hand({ benchmark }) {
  const from = chosen(route.value.query, "from", ["file", "image"]);
  const [file, setFile] = useState(null);
  const [image, setImage] = useState("");
  const [team, setTeam] = useState("");
  const [label, setLabel] = useState("");
  const [backend, setBackend] = useState("");
  const [told, tell] = useState(false);
  const backends = useBackends(benchmark.backends);
  const sending = useSending();
  const asking = useAttempt();
  // What a team has left is told to its own token alone.
  const isTeam = Boolean(benchmark.left);
  const isTable = file && TABLES.test(file.name);
  const isMissing = from === "file" ? !file : !image.trim();
  const done = (handed) => go(to("record", handed.task.id));
  const submit = (event) => {
    event.preventDefault();
    tell(true);
    if (isMissing) return;
    const more = Object.entries({ team: team.trim(), label: label.trim(), backend: isTable ? "" : backend }).filter(([, value]) => value);
    if (from === "image") {
      asking.attempt(async () => done(await handIn(`${benchmarkPath(benchmark.name)}/submissions`, { image: image.trim(), ...Object.fromEntries(more) })));
      return;
    }
    const form = new FormData();
    for (const [key, value] of more) form.append(key, value);
    form.append("file", file, file.name);
    sending.start(`${benchmarkPath(benchmark.name)}/submissions`, form, done);
  };
  const kind = file && (isTable ? t("submit.is.predictions") : IMAGES.test(file.name) ? t("submit.is.archive") : t("submit.is.unknown"));
  return html`<form id="hand-in" onSubmit=${submit} aria-label=${t("submit.title")}>
    <${Ways} name="from" label=${t("submit.hand")} value=${from} of=${[["file", t("submit.hand.file")], ["image", t("submit.hand.image")]]}
      onChange=${(next) => change({ from: next === "file" ? "" : next }, { replace: true })} />
    ${from === "file" ? html`<div class="field"><label for="file">${t("submit.file")}</label>
      <input id="file" type="file" disabled=${sending.isUnderWay} aria-describedby="file-hint" onChange=${(event) => setFile(event.target.files[0] || null)} />
      <span id="file-hint" class="hint">${t("submit.file.hint")}</span>
      ${file && html`<span class="hint" role="status">${kind} · ${bytes(file.size)}</span>`}
      ${told && isMissing && html`<span class="wrong" role="alert">${t("upload.missing")}</span>`}</div>`
      : html`<${Text} id="image" label=${t("submit.image")} value=${image} maxlength="1000" placeholder=${t("submit.image.example")}
        problem=${told && isMissing && t("submit.image.missing")} onInput=${setImage} />`}
    <div class="fields">
      ${!isTeam && html`<${Text} id="team" label=${t("list.team")} value=${team} maxlength="64" hint=${t("submit.team.hint")} onInput=${setTeam} />`}
      <${Text} id="label" label=${t("submit.label")} value=${label} maxlength="200" spellcheck=${true} hint=${t("submit.label.hint")} onInput=${setLabel} />
      ${!isTable && html`<${Choice} id="backend" label=${t("submit.backend")} value=${backend} of=${backends} onChange=${setBackend} />`}
    </div>
    <p class="buttons"><button type="submit" id="send" disabled=${sending.isUnderWay || asking.isBusy}>${t("submit.go")}</button></p>
    ${from === "file" && html`<${Sending} of=${sending} />`}
    ${asking.problem && html`<div role="alert"><${Failure} error=${asking.problem} /></div>`}
  </form>`;
}

export function BenchmarkForm() {
  const name = route.value.query.get("benchmark") || "";
  const list = useAsked("/benchmarks", { concerns: never, pause: once });
  const { data: benchmark, problem } = useAsked(name ? benchmarkPath(name) : null, { concerns: never, pause: once });
  const all = list.data?.benchmarks || [];
  const options = all.map((each) => [each.name, each.title && each.title !== each.name ? `${each.title} (${each.name})` : each.name]);
  if (name && !all.some((each) => each.name === name)) options.push([name, name]);
  return html`<${Refusal} of=${list.problem || problem} />
    ${list.data && !all.length && html`<p class="empty">${t("submit.no.benchmarks")}</p>`}
    ${(all.length > 0 || name) && html`<div class="fields"><${Choice} id="benchmark" label=${t("list.benchmark")} value=${name}
      of=${[["", t("submit.choose")], ...options]} onChange=${(next) => change({ kind: "benchmark", benchmark: next })} /></div>`}
    ${benchmark?.error && html`<p class="problem">${t("submit.unusable")} <${Name} text=${benchmark.error} /></p>`}
    ${benchmark && !benchmark.error && html`<${About} of=${benchmark} /><${Hand} key=${benchmark.name} benchmark=${benchmark} />`}`;
}
