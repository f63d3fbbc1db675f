// A task's log: asked for from where it was left off, shown as text, searched as one types.

import { html, useEffect, useLayoutEffect, useRef, useState } from "/static/preact.js";
import { ask, token } from "/static/core/api.js";
import { clock, t } from "/static/core/language.js";
import { Part } from "/static/parts/basic.js";

const PAGE = 200;
const MOST_LINES = 2000;
const PAUSE = 2000;
const AT_END = 40;

function line(record) {
  // Of a batch: whose it is.
  const whose = record.workspace ? `${record.workspace}  ` : "";
  const said = record.source === "model" ? record.message : `[${record.level}] ${record.message}`;
  return `${clock(record.time)}  ${whose}${said}`;
}

/** What was read of a log so far: {records, whole, problem}; `whole` counts also what is not kept here. */
function useLog(task, goesOn) {
  const [state, set] = useState({ records: null, whole: 0, problem: null });
  const asker = token.value;
  useEffect(() => {
    const ended = new AbortController();
    let timer = 0;
    const read = { offset: 0, before: [] };
    const look = async () => {
      try {
        let page;
        let records;
        do {
          page = await ask(`/tasks/${encodeURIComponent(task)}/logs?offset=${read.offset}&limit=${PAGE}`, { signal: ended.signal });
          records = [...read.before, ...page.records].slice(-MOST_LINES);
          set({ records, whole: read.offset + page.records.length, problem: null });
          if (page.next_offset !== null) Object.assign(read, { before: records, offset: page.next_offset });
        } while (page.next_offset !== null);
      } catch (error) {
        if (!ended.signal.aborted) set((known) => ({ ...known, problem: error }));
      }
      if (goesOn && !ended.signal.aborted) timer = setTimeout(look, PAUSE);
    };
    look();
    return () => {
      ended.abort();
      clearTimeout(timer);
    };
  }, [task, goesOn, asker]);
  return state;
}

/** The log of a task; `goesOn` says that more may come. */
export function Log({ task, goesOn }) {
  const { records, whole, problem } = useLog(task, goesOn);
  const [wanted, want] = useState("");
  const place = useRef(null);
  const isAtEnd = useRef(true);
  const part = wanted.toLowerCase();
  const shown = (records || []).map(line).filter((each) => !part || each.toLowerCase().includes(part));
  const text = shown.join("\n");
  useLayoutEffect(() => {
    if (place.current && isAtEnd.current) place.current.scrollTop = place.current.scrollHeight;
  }, [text]);
  const left = records ? whole - records.length : 0;
  const scrolled = ({ target }) => { isAtEnd.current = target.scrollHeight - target.scrollTop - target.clientHeight < AT_END; };
  return html`<${Part} title=${t("log.title")} id="log-part">
    ${records?.length > 0 && html`<label class="field"><span>${t("log.find")}</span><input id="log-find" type="search" autocomplete="off" spellcheck=${false} onInput=${(event) => want(event.target.value.trim())} /></label>`}
    ${left > 0 && html`<p id="log-cut" class="muted">${t("log.cut", { n: left, id: task })}</p>`}
    ${part && html`<p class="muted" role="status">${t("log.found", { n: shown.length })}</p>`}
    ${problem && html`<p class="muted">${t("log.away", { reason: problem.message })}</p>`}
    ${records && html`<pre id="log" ref=${place} tabindex="0" role="region" aria-label=${t("log.title")} onScroll=${scrolled}>${records.length ? text : t("log.none")}</pre>`}</>`;
}
