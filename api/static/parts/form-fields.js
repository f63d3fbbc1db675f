// Fields of forms: each with its label, its help, and what is wrong with what stands in it.

import { html } from "/static/preact.js";

const below = (id, hint, problem) => [hint && `${id}-hint`, problem && `${id}-problem`].filter(Boolean).join(" ") || null;

function Below({ id, hint, problem }) {
  return html`${hint && html`<span id="${id}-hint" class="hint">${hint}</span>`}
    ${problem && html`<span id="${id}-problem" class="wrong" role="alert">${problem}</span>`}`;
}

/** A line of text; other attributes go to the field. */
export function Text({ id, label, value, onInput, hint, problem, ...more }) {
  return html`<div class="field"><label for=${id}>${label}</label>
    <input id=${id} type="text" autocomplete="off" spellcheck=${false} value=${value} onInput=${(event) => onInput(event.target.value)}
      aria-describedby=${below(id, hint, problem)} aria-invalid=${problem ? "true" : null} ...${more} />
    <${Below} id=${id} hint=${hint} problem=${problem} /></div>`;
}

/** Lines of text. */
export function Area({ id, label, value, onInput, hint, problem, rows = 4, ...more }) {
  return html`<div class="field"><label for=${id}>${label}</label>
    <textarea id=${id} rows=${rows} dir="auto" value=${value} onInput=${(event) => onInput(event.target.value)}
      aria-describedby=${below(id, hint, problem)} aria-invalid=${problem ? "true" : null} ...${more}></textarea>
    <${Below} id=${id} hint=${hint} problem=${problem} /></div>`;
}

/** One of several; `of` are [value, word] pairs. */
export function Choice({ id, label, value, of, onChange, hint, problem }) {
  return html`<div class="field"><label for=${id}>${label}</label>
    <select id=${id} value=${value} onChange=${(event) => onChange(event.target.value)} aria-describedby=${below(id, hint, problem)}>
      ${of.map(([key, said]) => html`<option key=${key} value=${key}>${said}</option>`)}</select>
    <${Below} id=${id} hint=${hint} problem=${problem} /></div>`;
}

/** Any of several; `of` are their names. */
export function Several({ id, label, value, of, onChange, hint }) {
  const turn = (name, isOn) => onChange(of.filter((each) => (each === name ? isOn : value.includes(each))));
  return html`<fieldset id=${id} class="several" aria-describedby=${below(id, hint)}><legend>${label}</legend>
    <${Below} id=${id} hint=${hint} />
    <div class="checks">${of.map((name) => html`<label class="check" key=${name}>
      <input type="checkbox" value=${name} checked=${value.includes(name)} onChange=${(event) => turn(name, event.target.checked)} />
      <bdi>${name}</bdi></label>`)}</div></fieldset>`;
}

/** A few ways to go on, of which one is taken; `of` are [value, word] pairs. */
export function Ways({ name, label, value, of, onChange }) {
  return html`<fieldset class="ways"><legend>${label}</legend>${of.map(([key, said]) => html`<label class="check" key=${key}>
    <input type="radio" name=${name} value=${key} checked=${value === key} onChange=${() => onChange(key)} /> ${said}</label>`)}</fieldset>`;
}
