// Classes: pictures dropped into classes make a classifier; what to label next, and what it gets wrong.
// @ts-check
import { html, nothing } from '../vendor/lit-html/lit-html.js';
import { repeat } from '../vendor/lit-html/directives/repeat.js';
import { ask } from '../js/api.js';
import { nameOf, picture, strip } from '../js/cards.js';
import { classOfKey, count, plural } from '../js/format.js';
import { draw, known, learn, say, sayError, setSelection, table, view } from '../js/store.js';

export const title = 'Classes';
/** @type {any} */
let state = null;
/** @type {any} */
let next = null;
let place = 0;
let seed = 0;
let working = '';
let snippet = '';

/** @param {any} answer */
function take(answer) {
  state = answer;
  learn(answer.known);
  draw();
}

export async function enter() {
  try {
    take(await ask('/api/classes'));
    if (!next) await suggest();
  } catch (error) {
    sayError(error);
  }
}

async function suggest() {
  working = 'Looking for pictures worth a label';
  draw();
  next = await ask(`/api/label-next?k=24&seed=${seed}`, { working: (what) => ((working = what), draw()) }).catch((error) => (sayError(error), next));
  place = 0;
  working = '';
  learn(next?.rows);
  draw();
}

/** @param {string} path @param {any} body */
async function change(path, body) {
  try {
    take(await ask(path, { body }));
    return true;
  } catch (error) {
    sayError(error);
    return false;
  }
}

/** @param {number[]} rows @param {string | null} label */
async function label(rows, label) {
  if (!rows.length || !(await change('/api/labels', { rows, label }))) return;
  for (const row of rows) if (known.has(row)) known.get(row).mine = label;
  const done = new Set(rows);
  if (next && label !== null) {
    while (place < next.rows.length && (done.has(next.rows[place].row) || known.get(next.rows[place].row)?.mine)) place++;
    if (place >= next.rows.length) {
      seed++;
      await suggest();
    }
  }
}

addEventListener('keydown', (event) => {
  if (view.page !== 'classes' || !state || event.metaKey || event.ctrlKey || event.altKey) return;
  if (/** @type {HTMLElement} */ (event.target).closest('input, select, textarea, dialog')) return;
  const chosen = classOfKey(event.key, state.classes.length);
  const row = view.sel.length ? view.sel : next?.rows[place] ? [next.rows[place].row] : [];
  if (chosen >= 0 && row.length) {
    label(row, state.classes[chosen].name);
    if (view.sel.length) setSelection([]);
  } else if (event.key === 'n' && next) skip();
});

function skip() {
  place++;
  if (place >= next.rows.length) {
    seed++;
    suggest();
  }
  draw();
}

/** @param {any} entry @param {number} number */
function box(entry, number) {
  const over = (/** @type {DragEvent} */ e, /** @type {boolean} */ on) => {
    if (!e.dataTransfer?.types.includes('application/x-isomix-rows')) return;
    e.preventDefault();
    /** @type {HTMLElement} */ (e.currentTarget).classList.toggle('over', on);
  };
  return html`<section class="class" aria-label=${`Class ${entry.name}`} @dragover=${(/** @type {DragEvent} */ e) => over(e, true)} @dragleave=${(/** @type {DragEvent} */ e) => over(e, false)}
    @drop=${(/** @type {DragEvent} */ e) => {
      over(e, false);
      label((e.dataTransfer?.getData('application/x-isomix-rows') ?? '').split(',').filter(Boolean).map(Number), entry.name);
    }}>
    <header>${number < 9 ? html`<kbd>${number + 1}</kbd>` : nothing}<h3 title=${entry.name}>${entry.name}</h3><span class="dim num small">${plural(entry.rows.length, 'picture')}</span></header>
    <div class="mini">${entry.rows.slice(0, 12).map((/** @type {number} */ row) => html`<button title=${`Take ${known.get(row)?.name ?? ''} out`} aria-label=${`Take ${known.get(row)?.name ?? 'the picture'} out of ${entry.name}`} ?disabled=${table.read_only} @click=${() => label([row], null)}>${picture(row, 96)}</button>`)}
      ${entry.rows.length > 12 ? html`<span class="dim small">and ${count(entry.rows.length - 12)} more</span>` : nothing}</div>
    ${table.read_only ? nothing : html`<div class="bar">
      <button ?disabled=${!view.sel.length} @click=${() => (label(view.sel, entry.name), setSelection([]))}>Add ${view.sel.length ? count(view.sel.length) : ''} selected</button>
      <button class="quiet" @click=${() => rename(entry.name)}>Rename</button>
      <button class="quiet" aria-label=${`Remove the class ${entry.name}`} @click=${() => confirm(`Remove the class “${entry.name}” and its ${entry.rows.length} labels? The pictures stay.`) && change('/api/classes', { action: 'remove', name: entry.name })}>Remove</button></div>`}
  </section>`;
}

/** @param {string} name */
function rename(name) {
  const given = prompt('Another name for this class', name);
  if (given && given.trim() && given !== name) change('/api/classes', { action: 'rename', name, new: given });
}

function quality() {
  if (!state.accuracy) return html`<section class="panel"><h2>How good is it?</h2><p>${state.problem || 'Label two pictures a class to see.'}</p></section>`;
  const a = state.accuracy;
  const pct = (/** @type {number} */ share) => `${(100 * share).toFixed(0)} %`;
  const weights = Object.entries(state.chosen.weights).map(([name, value]) => `${name.replaceAll('_', ' ')} ${value}`).join(', ');
  return html`<section class="panel"><h2>How good is it?</h2>
    <div class="accuracy"><span class="big">${pct(a.share)}</span>
      <div class="interval" role="img" aria-label=${`95 percent interval from ${pct(a.low)} to ${pct(a.high)}`}><i .style=${`left:${100 * a.low}%;right:${100 - 100 * a.high}%`}></i><b .style=${`left:${100 * a.share}%`}></b></div>
      <p class="dim small">${a.right} of ${a.n} pictures are recognised by the classifier without them; 95 % interval ${pct(a.low)} to ${pct(a.high)}, chance ${pct(1 / state.classes.filter((/** @type {any} */ c) => c.rows.length).length)}.</p></div>
    <p class="dim small">${state.chosen.method}, ${state.chosen.text ? 'pictures and class names' : 'pictures alone'}; weights from ${state.chosen.tier}: ${weights}.</p>
    ${state.confused.length ? html`<h3>Taken for one another</h3><ul class="confused">${state.confused.map((/** @type {any} */ c) => html`<li>${strip(c.rows, 4)}<span><b>${c.true}</b> taken for <b>${c.guess}</b>${c.rows.length > 1 ? html`, ${c.rows.length} times` : nothing}</span></li>`)}</ul>${state.n_confused > state.confused.length ? html`<p class="dim small">and ${plural(state.n_confused - state.confused.length, 'other pair')}</p>` : nothing}` : html`<p class="small">No picture is taken for another class.</p>`}
  </section>`;
}

function tray() {
  if (working && !next) return html`<p class="working">${working}</p>`;
  const now = next?.rows[place];
  if (!now) return html`<div class="empty"><b>Nothing left to label</b>Every picture has a label.</div>`;
  const about = known.get(now.row) ?? now;
  return html`<p>${next.words}</p>
    <div class="label-next">
      <div class="now">${picture(now.row, 1024, nameOf(about))}<p class="small dim" title=${about.path}>${about.name}${now.guess ? html` · looks like <b>${now.guess}</b>` : nothing}</p>
        <div class="keys">${state.classes.slice(0, 9).map((/** @type {any} */ c, /** @type {number} */ i) => html`<button ?disabled=${table.read_only} @click=${() => label([now.row], c.name)}><kbd>${i + 1}</kbd> ${c.name}</button>`)}
          <button class="quiet" @click=${skip}><kbd>n</kbd> Next</button></div></div>
      <ul class="grid small-cards">${repeat(next.rows.slice(place + 1), (/** @type {any} */ r) => r.row, (/** @type {any} */ r) => html`<li class="card" data-row=${r.row} draggable="true" @dragstart=${(/** @type {DragEvent} */ e) => e.dataTransfer?.setData('application/x-isomix-rows', `${r.row}`)}>
        <button class="face take" aria-label=${`Label ${r.name} now`} @click=${() => ((place = next.rows.indexOf(r)), draw())}>${picture(r.row)}</button><p class="name">${r.guess ? html`<span class="dim">${r.guess}?</span>` : r.name}</p></li>`)}</ul>
    </div>`;
}

/** @param {SubmitEvent} event */
async function add(event) {
  event.preventDefault();
  const input = /** @type {any} */ (event.target).name_;
  if (input.value.trim() && (await change('/api/classes', { action: 'add', name: input.value }))) input.value = '';
}

async function useLabels() {
  for (const { name } of table.labels.slice(0, 9)) if (!state.classes.some((/** @type {any} */ c) => c.name === name)) await change('/api/classes', { action: 'add', name });
}

async function write() {
  if (!confirm('Write these labels into the table’s label column? This changes the table.')) return;
  try {
    const { written } = await ask('/api/export/table-labels', { body: {} });
    say(`${plural(written, 'label')} written into the table.`);
  } catch (error) {
    sayError(error);
  }
}

export { page as view };
function page() {
  if (!state) return html`<div class="head"><h1>Classes</h1></div><p class="working">Reading the labels</p>`;
  const labelled = state.classes.reduce((/** @type {number} */ n, /** @type {any} */ c) => n + c.rows.length, 0);
  return html`<div class="head"><h1>Classes</h1><p>Drop pictures into classes, or press <kbd>1</kbd> to <kbd>9</kbd>. Labels are kept beside the table, not in it, until you export them.</p></div>
    ${table.read_only ? html`<div class="note">Served read-only: nothing can be labelled.</div>` : html`<form class="bar tools" @submit=${add}><input name="name_" aria-label="Name of a new class" placeholder="Name of a new class" maxlength="120" /><button class="primary">Add class</button>
      ${!state.classes.length && table.labels.length > 1 ? html`<button type="button" @click=${useLabels}>Begin with the table’s first ${Math.min(9, table.labels.length)} labels</button>` : nothing}</form>`}
    ${state.classes.length ? html`<div class="classes">${state.classes.map(box)}</div>` : html`<div class="empty"><b>No classes yet</b>Name two, then give each a few pictures.</div>`}
    <div class="two">
      <section class="panel" aria-label="Label next"><h2>Label next</h2>${tray()}</section>
      ${quality()}
    </div>
    ${labelled ? html`<div class="section"><h2>Take it with you</h2></div><div class="bar">
      <a class="button" href="/api/export/labels" download>Labels, CSV</a>
      ${state.chosen ? html`<a class="button" href="/api/export/classifier" download>Classifier file</a><a class="button" href="/api/export/predictions" download>Predictions for all, CSV</a>` : nothing}
      <button @click=${async () => ((snippet = (await ask('/api/export/snippet')).code), draw())}>Python</button>
      ${table.read_only ? nothing : html`<button @click=${write}>Write into the table …</button>`}</div>
      ${snippet ? html`<pre class="panel code" tabindex="0" aria-label="Python code"><code>${snippet}</code></pre>` : nothing}` : nothing}`;
}
