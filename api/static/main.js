// The frame of the page: what there is to look at, who looks, in which language, and the view that the address asks for.

import { Component, html, render, signal, useEffect } from "/static/preact.js";
import { change, follow, route, to } from "/static/core/address.js";
import { keepToken, outside, token } from "/static/core/api.js";
import { firstLanguage, language, learn, otherLanguage, speak, t, tagOf } from "/static/core/language.js";
import { never, trouble, useAsked } from "/static/core/live.js";
import { startListening } from "/static/core/stream.js";
import { Question } from "/static/parts/dialog.js";
import { Refusal } from "/static/parts/failure.js";
import { SignIn } from "/static/parts/sign-in.js";

// In the order of the menu: its word there (those without one are reached from another view), and the dictionaries it needs.
const VIEWS = {
  records: ["nav.records", []],
  record: [null, ["boards", "compare", "jobs"]],
  jobs: ["nav.jobs", ["jobs"]],
  job: [null, ["compare", "jobs"]],
  compare: [null, ["boards", "compare", "jobs", "scorers"]],
  benchmarks: ["nav.benchmarks", ["boards"]],
  benchmark: [null, ["boards"]],
  workspaces: ["nav.workspaces", ["boards"]],
  workspace: [null, ["boards", "compare"]],
  submit: ["nav.submit", ["submit"]],
  scorers: ["nav.scorers", ["compare", "scorers", "submit"]],
  service: ["nav.service", ["service"]],
  "flow-run": [null, []],
};

const loaded = signal({});

async function load(name) {
  const dictionaries = VIEWS[name][1].map((each) => import(`/static/words/${each}.js`));
  const [module, ...known] = await Promise.all([import(`/static/views/${name}.js`), ...dictionaries]);
  for (const { words } of known) learn(words);
  loaded.value = { ...loaded.value, [name]: module.default };
}

// --- the frame -------------------------------------------------------------------------------------------------------

function Service() {
  const { data, problem } = useAsked("/readyz", { concerns: never, pause: () => 60000 });
  const state = trouble.value ? "away" : problem ? "unready" : data ? "ready" : null;
  if (!state) return null;
  return html`<details id="service" class=${state}>
    <summary><span class="dot" aria-hidden="true"></span><span>${t(`service.${state}`)}</span></summary>
    <p>${state === "ready" ? t("service.ready.text") : state === "away" ? t("api.away") : problem.message}</p></details>`;
}

function switchLanguage() {
  const other = otherLanguage();
  speak(other, true);
  // A link that names a language is handed on with the one that is read now.
  if (route.value.query.has("lang")) change({ lang: other }, { replace: true });
}

function Header() {
  const other = otherLanguage();
  const { view } = route.value;
  return html`<header>
    <a class="brand" href=${to("records")}>AutoScorer</a>
    <nav aria-label=${t("nav.label")}>${Object.entries(VIEWS).filter(([, [word]]) => word).map(([name, [word]]) => html`
      <a href=${to(name)} aria-current=${name === view ? "page" : null}>${t(word)}</a>`)}</nav>
    <div class="account">
      <${Service} />
      <a href="/docs">${t("page.api")}</a>
      <button type="button" id="language" lang=${tagOf(other)} aria-label=${t("page.other.label")} onClick=${switchLanguage}>${t("page.other")}</button>
      ${token.value && html`<button type="button" id="sign-out" onClick=${() => { keepToken(""); outside.value = "asked"; }}>${t("token.out")}</button>`}
    </div>
  </header>`;
}

/** A fault of a view leaves the rest of the page standing. */
class Guard extends Component {
  static getDerivedStateFromError(error) {
    return { error };
  }

  componentDidUpdate(before) {
    if (this.state.error && before.of !== this.props.of) this.setState({ error: null });
  }

  render() {
    return this.state.error ? html`<${Refusal} of=${{ message: this.state.error.message }} />` : this.props.children;
  }
}

function View() {
  const { view, id } = route.value;
  const known = view in VIEWS ? view : null;
  const There = loaded.value[known];
  useEffect(() => {
    if (known && !There) load(known).catch((error) => { trouble.value = error; });
  }, [known, There]);
  if (!known) return html`<section class="card"><h1>${t("page.nothing")}</h1><p class="empty"><a href=${to("records")}>${t("nav.records")}</a></p></section>`;
  return html`<${Guard} of=${`${view}/${id}`}>${There && html`<${There} key=${`${view}/${id}/${token.value}`} id=${id} />`}</>`;
}

function Page() {
  language(); // every word is drawn anew in another one
  return html`
    <a class="skip" href="#main">${t("page.skip")}</a>
    <${Header} />
    <main id="main" tabindex="-1">
      ${trouble.value && html`<${Refusal} of=${trouble.value} />`}
      ${outside.value ? html`<${SignIn} wasRefused=${outside.value === "wrong"} />` : html`<${View} />`}
    </main>
    <${Question} />`;
}

// --- beginning -------------------------------------------------------------------------------------------------------

// A link of the API's first start brings its token behind the #, which no server is sent. It must not stay there.
function takeToken() {
  const given = /^#token=([\x21-\x7e]+)$/.exec(location.hash);
  if (!given) return;
  history.replaceState(history.state, "", location.pathname + location.search);
  keepToken(given[1]);
}

takeToken();
addEventListener("hashchange", takeToken);
speak(firstLanguage());
follow();
startListening();
render(html`<${Page} />`, document.body);
