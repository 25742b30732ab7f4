// The frame around the pages: navigation, what is selected, what happened.
// @ts-check
import { html, nothing, render } from '../vendor/lit-html/lit-html.js';
import { ask } from './api.js';
import { follow } from './cards.js';
import { count, plural } from './format.js';
import { missing } from './spaces.js';
import { address, draw, go, loadTable, onChange, onDraw, say, sayError, selectionName, setSelection, space, table, toast, view } from './store.js';
import * as classes from '../pages/classes.js';
import * as duplicates from '../pages/duplicates.js';
import * as map from '../pages/map.js';
import * as report from '../pages/report.js';
import * as search from '../pages/search.js';
import * as spectrum from '../pages/spectrum.js';

/** @type {Record<string, {title: string, view: () => any, enter?: () => void, changed?: (before: any) => void, leave?: () => void, drawn?: () => void}>} */
const pages = { search, spectrum, map, classes, duplicates, report };
const root = /** @type {HTMLElement} */ (document.getElementById('app'));
let link = '';
let begun = false;

function frame() {
  const page = pages[view.page];
  return html`<header class="side">
      <div class="brand"><img src="/static/icon.svg" alt="" />isomix</div>
      <nav aria-label="Pages">
        ${Object.entries(pages).map(([name, { title }]) => html`<a href=${address({ page: name })} aria-current=${name === view.page ? 'page' : nothing} @click=${(/** @type {MouseEvent} */ e) => follow(e, { page: name })}>${title}</a>`)}
      </nav>
      <div class="foot">
        <p><b>${table.name}</b>${plural(table.rows, 'picture')}<br />model ${table.model}${table.read_only ? html`<br />read-only: nothing is kept` : nothing}</p>
        ${missing()}
        <button class="quiet" @click=${elsewhere}>Open elsewhere</button>
      </div>
    </header>
    <main id="page" class="page ${view.sel.length ? 'picking' : ''}" tabindex="-1" aria-label=${page.title}>${changed()}${page.view()}</main>
    ${view.sel.length ? selection() : nothing}
    <div role="status" aria-live="polite">${toast.until > Date.now() ? html`<div class="toast">${toast.text}</div>` : nothing}</div>
    <dialog aria-label="A link for another browser">
      <h2>Open elsewhere</h2>
      <p class="dim">This link opens the studio in another browser. It works once.</p>
      <input readonly aria-label="Link" .value=${link} @focus=${(/** @type {any} */ e) => e.target.select()} />
      <div class="bar"><span class="grow"></span><button @click=${(/** @type {any} */ e) => e.target.closest('dialog').close()}>Close</button></div>
    </dialog>`;
}

function changed() {
  if (table.change === 'changed')
    return html`<div class="note warn"><span>The table has changed on the disk since the studio read it.</span><button @click=${reload}>Read it again</button></div>`;
  if (table.change === 'gone') return html`<div class="note bad">The table is not on the disk any more. What you see is in memory; labels and votes are still kept beside it.</div>`;
  return nothing;
}

async function reload() {
  try {
    await ask('/api/reload', { body: {} });
    location.reload();
  } catch (error) {
    sayError(error);
  }
}

async function elsewhere() {
  try {
    link = (await ask('/api/ticket', { body: {} })).link;
    draw();
    root.querySelector('dialog')?.showModal();
  } catch (error) {
    sayError(error);
  }
}

function selection() {
  const name = encodeURIComponent(selectionName());
  const few = view.sel.slice(0, 64);
  return html`<aside class="selection" aria-label="Selection">
    <b>${count(view.sel.length)} selected</b>
    <button @click=${() => go({ page: 'search', q: few.length === 1 ? `row:${few[0]}` : `rows:${few.join(',')}` })} title=${view.sel.length > 64 ? 'the mean of the first 64' : ''}>More like ${few.length === 1 ? 'this' : 'these'}</button>
    <button @click=${() => go({ page: 'spectrum', pins: view.sel.slice(0, 9) })}>Pin</button>
    <button @click=${() => go({ page: 'classes' })}>Label</button>
    ${['csv', 'json', 'txt'].map((kind) => html`<a class="button" href="/api/export/selection?kind=${kind}&rows=${name}" download>${kind === 'txt' ? 'Paths' : kind.toUpperCase()}</a>`)}
    <button class="quiet" @click=${() => setSelection([])} aria-label="Clear the selection">Clear</button>
  </aside>`;
}

onDraw(() => {
  if (!table) return;
  if (!begun) {
    begun = true;
    root.replaceChildren();
    pages[view.page].enter?.();
  }
  document.title = `${pages[view.page].title} · ${table.name} · isomix`;
  render(frame(), root);
  pages[view.page].drawn?.();
});

onChange((before) => {
  if (before.page !== view.page) {
    pages[before.page].leave?.();
    pages[view.page].enter?.();
    scrollTo({ top: 0 });
    requestAnimationFrame(() => document.getElementById('page')?.focus({ preventScroll: true }));
  } else pages[view.page].changed?.(before);
});

// Another window may have labelled or voted, and the table may have changed.
addEventListener('focus', async () => {
  const before = table?.revision;
  await loadTable().catch(() => say('The studio does not answer. Is `isomix serve` still running?'));
  if (table && table.revision !== before) pages[view.page].enter?.();
});
addEventListener('keydown', (event) => {
  const typing = /** @type {HTMLElement} */ (event.target).closest('input, select, textarea, dialog');
  if (event.key === '/' && !typing) {
    event.preventDefault();
    if (view.page !== 'search') go({ page: 'search' });
    requestAnimationFrame(() => requestAnimationFrame(() => document.getElementById('words')?.focus()));
  }
  if (event.key === 'Escape' && !typing && view.sel.length) setSelection([]);
});

const opened = async () => {
  try {
    await loadTable();
    // The model may take a while; the box for words opens when it is there.
    const waits = () => (!table.words.ready && !table.words.reason) || table.spaces.some((/** @type {any} */ s) => s.working);
    for (let wait = 500; waits(); wait *= 1.5) {
      await new Promise((resolve) => setTimeout(resolve, Math.min(wait, 8000)));
      const before = space()?.name;
      await loadTable();
      if (space()?.name !== before) pages[view.page].enter?.();
    }
  } catch (error) {
    const first = root.querySelector('.first');
    if (first) first.textContent = String(/** @type {Error} */ (error).message);
  }
};
opened();
