// What was handed in to a benchmark: of one team as a course over time, and each with what came of it.

import { html, useEffect, useRef, useState } from "/static/preact.js";
import { route, to } from "/static/core/address.js";
import { act } from "/static/core/api.js";
import { meaning, moment, t, word } from "/static/core/language.js";
import { useAsked } from "/static/core/live.js";
import { Chip, Name, Small, Time } from "/static/parts/basic.js";
import { addressOf } from "/static/parts/benchmark.js";
import { Refusal } from "/static/parts/failure.js";
import { Course } from "/static/parts/history.js";
import { Pages } from "/static/parts/pages.js";
import { isActive } from "/static/parts/task.js";
import { Score } from "/static/parts/workspace.js";

const PAGE = 100;
// Of one team: its course is drawn whole.
const WHOLE = 500;
// Milliseconds: each look reads the Results of all that are shown.
const ACTIVE_PAUSE = 3000;
const IDLE_PAUSE = 15000;
const pause = ({ submissions }) => (submissions.some((each) => isActive(each)) ? ACTIVE_PAUSE : IDLE_PAUSE);

function outcomeOf(each) {
  if (each.state !== "completed" && each.state !== null) return each.state;
  return each.pass === true ? "passed" : each.pass === false ? "unpassed" : each.error ? "failed" : each.state;
}

function Row({ of: each, isCounted, onChoose, withTeam }) {
  const outcome = outcomeOf(each);
  const isScored = !each.error && (each.score !== null || each.board_only);
  const at = each.task_id ? to("record", each.task_id) : to("workspace", each.workspace);
  return html`<tr role="row" data-number=${each.number}>
    <td role="cell" data-key="name"><a href=${at}>#${each.number}</a>${each.label && html`<${Small}><${Name} text=${each.label} /></>`}</td>
    ${withTeam && html`<td role="cell" data-key="team"><a href=${to("benchmark", route.value.id, { team: each.team })}><${Name} text=${each.team} /></a></td>`}
    <td role="cell" data-key="state">${outcome && html`<${Chip} state=${outcome} />`}${each.error && html`
      <${Small}>${meaning(each.error)?.title || html`<${Name} text=${each.error} />`}</>`}</td>
    <td role="cell" data-key="score" class="num"><${Score} of=${each} /></td>
    <td role="cell" data-key="kind">${word("kind", each.kind)}</td>
    <td role="cell" data-key="submitted"><${Time} text=${each.submitted_at} short />${each.late && html`<${Small}>${t("bench.late")}</>`}</td>
    <td role="cell" data-key="counts">${isCounted ? html`<span class="state completed">${t("board.counts.now")}</span>`
      : onChoose && isScored && !each.late && html`
        <button type="button" class="choose slim" onClick=${onChoose} aria-label=${t("board.choose.label", { n: each.number })}>${t("board.choose")}</button>`}</td>
    <td role="cell" data-key="workspace"><a href=${to("workspace", each.workspace)}>${t("list.workspace")}</a></td>
  </tr>`;
}

/** Points of the course, the oldest first; what was scored by another version of the benchmark is marked. */
function courseOf(submissions) {
  let version = null;
  return [...submissions].reverse().map((each) => {
    const isOther = version !== null && each.version !== null && each.version !== version;
    version = each.version ?? version;
    const name = `#${each.number}`;
    return {
      value: each.late ? null : each.score, low: each.low, high: each.high, short: name,
      label: [name, each.label, moment(each.submitted_at)?.[0]].filter(Boolean).join(" "),
      mark: isOther ? t("course.version", { n: each.version }) : "",
    };
  });
}

/** The submissions that the token may see: of the team in the address, else all.
 *
 * @param board What the leaderboard says, or nothing yet: whose token it is, and which submissions count.
 * @param onChosen Is told when another submission counts.
 */
export function Submissions({ of: benchmark, board, onChosen }) {
  const { query } = route.value;
  const title = useRef(null);
  const [problem, tell] = useState(null);
  const team = query.get("team") || "";
  const cursor = query.get("cursor") || "";
  const params = new URLSearchParams({ limit: String(team ? WHOLE : PAGE), ...(team && { team }), ...(cursor && { cursor }) });
  const asked = useAsked(addressOf(benchmark.name, `/submissions?${params}`), { pause });
  const page = asked.data;
  const all = page?.submissions || [];
  const teams = new Set(all.map((each) => each.team));
  // Which of a team's is best may be another one of the withheld part; what it has chosen is one for both.
  const isMarked = board?.part === "public" || benchmark.leaderboard?.choose === "chosen";
  const counted = new Set((isMarked ? board?.rows || [] : []).filter((row) => row.team !== null).map((row) => `${row.team} ${row.number}`));
  const before = useRef(team);
  // Whoever has asked for a team's looks at them.
  useEffect(() => {
    if (before.current !== team && team) title.current.focus();
    before.current = team;
  }, [team]);
  const choose = async (each) => {
    tell(null);
    try {
      await act(addressOf(benchmark.name, "/chosen"), { number: each.number, team: each.team }, "PUT");
      title.current.focus();
    } catch (error) {
      tell(error);
    }
    onChosen();
    asked.again();
  };
  // A team's own are all its.
  const withTeam = !team && !board?.team;
  const isChosen = benchmark.leaderboard?.choose === "chosen";
  const head = ["board.number", ...(withTeam ? ["list.team"] : []), "list.state", "list.score", "board.kind", "board.submitted", "board.counts", ""];
  return html`<section class="part" id="submissions">
    <div class="title-line"><h2 id="submissions-title" ref=${title} tabindex="-1">${team ? html`${t("board.submissions")}: <${Name} text=${team} />` : t("board.submissions")}</h2>
      <p class="muted" role="status">${page && t("board.submissions.count", { n: page.total })}</p>
      ${team && html`<a href=${to("benchmark", benchmark.name, { part: query.get("part") })}>${t("board.all")}</a>`}</div>
    <${Refusal} of=${asked.problem || problem} />
    ${teams.size === 1 && html`<${Course} points=${courseOf(all)} label=${all[0].team} marked=${t("course.versions")} />`}
    ${all.length > 0 && html`<div class="scroll" tabindex="0" role="region" aria-labelledby="submissions-title"><table role="table" class="records">
      <thead role="rowgroup"><tr role="row">${head.map((key) => html`<th role="columnheader" scope="col" class=${key === "list.score" ? "num" : null}>${key && t(key)}</th>`)}</tr></thead>
      <tbody role="rowgroup">${all.map((each) => html`<${Row} key=${each.workspace} of=${each} withTeam=${withTeam} isCounted=${counted.has(`${each.team} ${each.number}`)}
        onChoose=${isChosen && (() => choose(each))} />`)}</tbody></table></div>`}
    ${page && !all.length && html`<p class="empty">${t(team ? "board.submissions.hidden" : "board.submissions.none")}</p>`}
    ${page && html`<${Pages} next=${page.next_cursor} cursor=${cursor} onTurn=${() => title.current.focus()} />`}
  </section>`;
}
