// Search: one query, two spaces side by side.
// @ts-check
import { html, nothing } from '../vendor/lit-html/lit-html.js';
import { repeat } from '../vendor/lit-html/directives/repeat.js';
import { ask, latest } from '../js/api.js';
import { card, nameOf, picture } from '../js/cards.js';
import { curve } from '../js/curve.js';
import { count, cuts, evidence, moved, percentile } from '../js/format.js';
import { inWords, picker } from '../js/spaces.js';
import { band, draw, go, known, learn, sayError, space, table, view } from '../js/store.js';

export const title = 'Search';
/** @type {any} */
let found = null;
let working = '';
let problem = '';
/** @type {any[]} */
let examples = [];
let seed = 0;
/** @type {any} */
let votes = null;
let over = false;

const asked = latest(
  (/** @type {any} */ body, signal) =>
    ask('/api/search', { body, signal, working: (what) => ((working = what), draw()) }),
  (answer, body) => {
    learn(answer.known);
    found = { ...answer, asked: body };
    working = problem = '';
    if (answer.adapted && answer.adapted.space !== counted) countVotes(answer.adapted.space);
    draw();
    if (answer.working) setTimeout(() => found?.asked === body && view.page === 'search' && asked.queue(body), 500);
  },
  (error) => {
    working = '';
    problem = error.message;
    found = null;
    draw();
  },
);

/** @param {boolean} exact @param {boolean} now */
function search(exact = true, now = true) {
  if (!view.q) {
    asked.drop();
    found = null;
    working = problem = '';
    if (!examples.length) begin();
    return;
  }
  const body = { query: view.q, space: space()?.name ?? 'isoclip', band: band(), k: view.k, exact };
  if (now) asked.now(body);
  else asked.queue(body);
}

async function begin() {
  const answer = await ask(`/api/examples?n=24&seed=${seed}`).catch(sayError);
  learn(answer?.rows);
  examples = answer?.rows ?? [];
  draw();
}

export function enter() {
  search();
  if (counted) countVotes(counted);
}

/** The space whose votes are shown. */
let counted = '';
/** @param {string} name */
function countVotes(name) {
  counted = name;
  ask(`/api/votes?space=${encodeURIComponent(name)}`).then((v) => ((votes = v), draw())).catch(() => {});
}
/** @param {any} before */
export function changed(before) {
  if (view.q !== before.q || view.k !== before.k || view.space !== before.space) search();
  else if (String(view.band) !== String(before.band) && !moving) search();
}
export const leave = () => asked.drop();

let moving = false;
/** @param {[number, number]} next @param {boolean} settled */
function moveBand(next, settled) {
  moving = true;
  go({ band: next }, { replace: true });
  moving = false;
  search(settled, settled);
}

/** @param {string} choice */
async function vote(choice) {
  try {
    votes = await ask('/api/votes', { body: { query: view.q, space: found.adapted.space, choice } });
    found.voted = choice;
    draw();
  } catch (error) {
    sayError(error);
  }
}

addEventListener('keydown', (event) => {
  if (view.page !== 'search' || !found?.adapted || table.read_only) return;
  if (/** @type {HTMLElement} */ (event.target).closest('input, select, textarea, dialog, .curve')) return;
  const choice = { 1: 'plain', 0: 'same', 2: 'adapted' }[event.key];
  if (choice) vote(choice);
});

/** @param {Blob | null | undefined} file */
async function upload(file) {
  if (!file) return;
  if (!file.type.startsWith('image/')) return sayError('That is no picture. Drop a JPEG, PNG, WebP, GIF or AVIF.');
  if (file.size > 25_000_000) return sayError('That picture has more than the 25 MB that are taken.');
  working = 'reading your picture';
  draw();
  try {
    const { query } = await ask('/api/uploads', { body: file.type ? file : new Blob([file], { type: 'image/png' }) });
    go({ page: 'search', q: query });
  } catch (error) {
    working = '';
    sayError(error);
  }
}

addEventListener('paste', (event) => {
  const file = [...(event.clipboardData?.files ?? [])].find((f) => f.type.startsWith('image/'));
  if (file) upload(file);
});
addEventListener('dragover', (event) => {
  if (view.page === 'search' && event.dataTransfer?.types.includes('Files')) {
    event.preventDefault();
    if (!over) (over = true), draw();
  }
});
addEventListener('dragleave', (event) => {
  if (over && !event.relatedTarget) (over = false), draw();
});
addEventListener('drop', (event) => {
  if (view.page !== 'search' || !event.dataTransfer?.files.length) return;
  event.preventDefault();
  over = false;
  upload(event.dataTransfer.files[0]);
});

function queryPicture() {
  if (view.q.startsWith('row:')) {
    const row = Number(view.q.slice(4));
    const about = known.get(row);
    return about ? html`<div class="query">${picture(row, 96, 'The query')}</div>` : html`<span class="said">…</span>`;
  }
  if (view.q.startsWith('upload:')) return html`<img class="query" src="/api/uploads/${view.q.slice(7)}" alt="The query: your picture" />`;
  return html`<span class="said" aria-hidden="true">${view.q.startsWith('text:') ? '“ ”' : view.q ? '∑' : '⌕'}</span>`;
}

function dropZone() {
  const words = table.words;
  const hint = words.ready ? 'Drop or paste a picture, or type words' : 'Click any picture below';
  return html`<div class="drop ${over ? 'over' : ''}">
    ${queryPicture()}
    <form role="search" @submit=${(/** @type {Event} */ e) => {
        e.preventDefault();
        const typed = /** @type {any} */ (e.target).words.value.trim();
        go({ q: typed ? `text:${typed}` : '' });
      }}>
      <input id="words" name="words" type="search" autocomplete="off" aria-label="Search by words" placeholder=${hint} maxlength="400"
        ?disabled=${!words.ready} .value=${view.q.startsWith('text:') ? view.q.slice(5) : ''} />
      <kbd aria-hidden="true">/</kbd>
      <label class="button file" for="file">Choose a picture</label>
    </form>
    <input class="hidden" id="file" type="file" accept="image/*" aria-label="Choose a picture" ?disabled=${!words.ready} @change=${(/** @type {any} */ e) => upload(e.target.files[0])} />
    ${words.reason ? html`<p class="why">Words and pictures from outside need the model, which is not at hand: ${words.reason}</p>` : words.ready ? nothing : html`<p class="why">Loading the model …</p>`}
  </div>`;
}

function plainColumn() {
  const shown = found.plain.hits;
  return html`<section class="col plain" aria-label="Plain space">
    <header><h2>plain</h2><p>the model’s own space: the cosine of the embeddings as they are stored</p></header>
    <ol class="grid">
      ${repeat(shown, (/** @type {any} */ h) => h.row, (/** @type {any} */ h) => card(h.row, { left: h.rank, right: html`<span class="share">${percentile(h.rank, found.rows)}</span>`, title: `cosine ${h.cosine.toFixed(4)}`, words: `rank ${h.rank}, ${percentile(h.rank, found.rows)}` }))}
    </ol>
  </section>`;
}

function adaptedColumn() {
  const here = space();
  const name = found.adapted?.title ?? here?.title ?? 'adapted';
  if (found.working) return html`<section class="col iso" aria-label="Adapted space"><header><h2>${picker()}</h2></header><p class="working">${found.working}</p></section>`;
  if (!found.adapted) {
    const why = found.query.kind === 'text' ? 'Words stay in the plain space' : 'No adapted side';
    return html`<section class="col iso" aria-label="Adapted space"><header><h2>${found.query.kind === 'text' ? name : picker()}</h2></header><div class="empty"><b>${why}</b>${found.reason}</div></section>`;
  }
  const { hits, band: used, candidates, note } = found.adapted;
  const why = found.query.kind === 'text' ? 'words are compared in the plain space' : '';
  const fresh = hits.filter((/** @type {any} */ h) => h.was === null || h.was > hits.length).length;
  const cut = used && here?.directions ? cuts(used, here.directions) : '';
  return html`<section class="col iso" aria-label="Adapted space">
    <header><h2>${found.query.kind === 'text' ? name : picker()}${used ? html`<span class="num">${used[0]} / ${used[1]}</span>` : nothing}</h2>
      <p>${[cut, why, note, `${count(fresh)} new in the first ${count(hits.length)}`, candidates ? `ranked among the ${count(candidates)} nearest of the plain space` : ''].filter(Boolean).join(' · ')}</p></header>
    <ol class="grid">
      ${repeat(hits, (/** @type {any} */ h) => h.row, (/** @type {any} */ h) => {
        const move = moved(h.rank, h.was, found.plain.hits.length);
        return card(h.row, { left: h.rank, right: html`<span class="chip ${move.kind}">${move.kind === 'new' && h.was !== null ? html`new<span class="was"> (was ${count(h.was)})</span>` : move.text}</span>`, title: `cosine ${h.cosine.toFixed(4)} · ${percentile(h.rank, candidates ?? found.rows)}`, words: `rank ${h.rank}, ${move.words}` });
      })}
    </ol>
  </section>`;
}

/** What was asked, and which side is better. */
function headline() {
  const { row, kind, name } = found.query;
  const about = row >= 0 ? known.get(row) : null;
  const words = kind === 'text' ? `“${name}”` : about ? nameOf(about) : name;
  return html`<div class="asked"><p><b>${words}</b>${about ? html` <span class="dim small">${about.path}</span>` : nothing}</p>${voting()}</div>`;
}

function voting() {
  if (!found.adapted || table.read_only) return nothing;
  const button = (/** @type {string} */ choice, /** @type {string} */ words) => html`<button aria-pressed=${found.voted === choice} @click=${() => vote(choice)}>${words}</button>`;
  return html`<div class="vote" role="group" aria-label="Which side is better?"><span>Which side is better?</span>
    ${button('plain', '1 · plain')}${button('same', '0 · same')}${button('adapted', `2 · ${found.adapted.title}`)}</div>
    ${votes?.total ? html`<p class="tally dim small">${evidence(votes)}</p>` : nothing}`;
}

let open = false;
/** The curve above the results, so that both are in sight while a handle is dragged. */
function strip() {
  const here = space();
  if (!here?.directions || !found.adapted?.band) return nothing;
  return html`<details class="panel strip" ?open=${open} @toggle=${(/** @type {any} */ e) => ((open = e.target.open), draw())}>
    <summary>Move the band <span class="dim">directions outside of it are left out, and the right side ranks anew</span></summary>
    ${open ? curve({ move: moveBand, height: 132 }) : nothing}</details>`;
}

function results() {
  if (!view.q)
    return html`<div class="head"><h2>Begin with one of these</h2>
        <button @click=${() => ((seed = (seed + 1) % 1000000), begin())}>Other pictures</button>
        <p>Click one to see its nearest twice: left in the model’s own space (plain), right in ${space()?.title ?? 'an adapted one'}: ${inWords(space())}.</p></div>
      ${examples.length ? html`<ul class="grid">${examples.map((row) => card(row.row))}</ul>` : html`<p class="working">Fetching pictures</p>`}`;
  if (problem) return html`<div class="empty" role="alert"><b>That did not work</b>${problem}</div>`;
  if (!found) return html`<p class="working">${working || 'Searching'}</p>`;
  const most = Math.min(400, found.rows - (found.query.row >= 0 ? 1 : 0));
  return html`${working ? html`<p class="working">${working}</p>` : nothing}
    ${headline()}${strip()}
    <div class="cols ${found.query.kind === 'text' && !found.adapted ? 'words' : ''}">${plainColumn()}${adaptedColumn()}</div>
    ${view.k < most ? html`<div class="more"><button @click=${() => go({ k: Math.min(view.k * 2, 400) }, { replace: true })}>Show ${count(Math.min(view.k * 2, most))} of ${count(most === 400 ? found.rows - 1 : most)}</button></div>` : html`<p class="more dim small">${count(found.plain.hits.length)} of ${count(found.rows)} pictures are shown; the Map has all of them.</p>`}`;
}

const page = () => html`<h1 class="hidden">Search</h1>${dropZone()}${results()}`;
export { page as view };
