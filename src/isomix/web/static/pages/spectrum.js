// Spectrum: the curve is the slider, and nine queries rank anew while it moves.
// @ts-check
import { html, nothing } from '../vendor/lit-html/lit-html.js';
import { repeat } from '../vendor/lit-html/directives/repeat.js';
import { ask, latest } from '../js/api.js';
import { follow, nameOf, picture } from '../js/cards.js';
import { curve } from '../js/curve.js';
import { count, cuts, moved } from '../js/format.js';
import { picker, preparing } from '../js/spaces.js';
import { address, band, describe, draw, go, known, learn, sayError, space, view } from '../js/store.js';

export const title = 'Spectrum';
const HITS = 12;
/** @type {number[]} */
let pins = [];
/** @type {any} */
let ranked = null;
/** @type {any} */
let evidence = null;
let working = '';
let problem = '';
/** Milliseconds that the last ticks took, for who measures. @type {number[]} */
export const ticks = [];

const reranking = latest(
  async (/** @type {any} */ body, signal) => {
    const began = performance.now();
    const answer = await ask('/api/rerank', { body, signal, working: (what) => ((working = what), draw()) });
    ticks.push(performance.now() - began);
    return answer;
  },
  (answer) => {
    ranked = answer;
    for (const query of answer.queries) for (const hit of query.hits) if (!known.has(hit.row)) known.set(hit.row, { row: hit.row, version: hit.version, name: '' });
    working = problem = '';
    draw();
  },
  (error) => {
    working = '';
    problem = error.message;
    draw();
  },
);

/** @param {boolean} exact */
function rerank(exact) {
  const here = space();
  if (!pins.length || !here) return;
  const body = { queries: pins.map((row) => `row:${row}`), space: here.name, band: band(), k: HITS, exact };
  if (exact) reranking.now(body);
  else reranking.queue(body);
}

export async function enter() {
  try {
    if (view.pins.length) {
      pins = view.pins;
      await describe(pins);
    } else if (!pins.length) {
      const answer = await ask('/api/examples?n=9');
      learn(answer.rows);
      pins = answer.rows.map((/** @type {any} */ row) => row.row);
    }
    draw();
    rerank(true);
    evidence ??= await ask('/api/bands', { working: (what) => ((evidence = { working: what }), draw()) });
    if (evidence.working) evidence = await ask('/api/bands');
  } catch (error) {
    if (evidence?.working || !evidence) evidence = { available: false, words: String(/** @type {Error} */ (error).message) };
  }
  draw();
}
export const leave = () => reranking.drop();
/** @param {any} before */
export function changed(before) {
  if (String(view.pins) !== String(before.pins)) {
    pins = view.pins.length ? view.pins : pins;
    describe(pins).catch(sayError);
    rerank(true);
  } else if (view.space !== before.space || (String(view.band) !== String(before.band) && !moving)) rerank(true);
}

let moving = false;
/** @param {[number, number]} next @param {boolean} settled */
function move(next, settled) {
  moving = true;
  go({ band: next }, { replace: true });
  moving = false;
  rerank(settled);
}

function heat() {
  if (!evidence || evidence.working) return html`<p class="working">${evidence?.working ?? 'Scoring bands'}</p>`;
  if (!evidence.available || !evidence.map) return html`<p>${evidence.words}</p>`;
  /** @type {[number, number, number][]} */
  const scores = evidence.scores;
  const tops = [...new Set(scores.map((s) => s[0]))].sort((a, b) => a - b);
  const bottoms = [...new Set(scores.map((s) => s[1]))].sort((a, b) => a - b);
  const values = scores.map((s) => s[2]);
  const low = Math.min(...values), span = Math.max(Math.max(...values) - low, 1e-9);
  const here = band();
  const digits = Math.max(...values) - low < 0.2 ? 1 : 0;
  return html`<p>${evidence.words}</p>
    <table class="heat"><caption class="hidden">mAP in percent by how many directions are cut: columns the largest, rows the smallest</caption>
      <thead><tr><th scope="col"><span class="hidden">smallest cut by largest cut</span></th>${tops.map((t) => html`<th scope="col">${t}</th>`)}</tr></thead>
      <tbody>${bottoms.map((b) => html`<tr><th scope="row">${b}</th>${tops.map((t) => {
        const cell = scores.find((s) => s[0] === t && s[1] === b);
        if (!cell) return html`<td></td>`;
        const level = Math.round(((cell[2] - low) / span) * 9);
        const best = evidence.best[0] === t && evidence.best[1] === b;
        const now = here && here[0] === t && here[1] === b;
        return html`<td><button class="v${level} ${best ? 'best' : ''} ${now ? 'here' : ''}" title=${`cut ${t} / ${b}: mAP ${(100 * cell[2]).toFixed(1)}`} aria-label=${`cut ${t} largest and ${b} smallest: mAP ${(100 * cell[2]).toFixed(1)}${best ? ', the best' : ''}`} @click=${() => move([t, b], true)}>${(100 * cell[2]).toFixed(digits)}</button></td>`;
      })}</tr>`)}</tbody>
    </table>
    <div class="legend"><span>mAP in percent, by ${evidence.by}. Columns: how many of the largest directions are cut; rows: of the smallest. Outlined: the best. Click a cell to take its band.</span></div>`;
}

/** @param {any} query */
function pin(query) {
  const row = Number(query.key.slice(4));
  const target = { page: 'search', q: query.key };
  return html`<li class="pin">
    <a href=${address(target)} @click=${(/** @type {MouseEvent} */ e) => follow(e, target)} aria-label=${`${nameOf(known.get(row))}: search for it`} title=${known.get(row)?.path ?? ''}>${picture(row, 96)}</a>
    <div class="hits">${repeat(query.hits, (/** @type {any} */ h) => h.row, (/** @type {any} */ hit, /** @type {number} */ i) => {
      const m = moved(i + 1, hit.was, HITS);
      return html`<figure title=${`cosine ${hit.cosine.toFixed(4)}`}>${picture(hit.row, 96, `hit ${i + 1}, ${m.words}`)}<figcaption class="chip ${m.kind}" aria-hidden="true">${m.kind === 'new' ? `was ${hit.was === null ? '…' : count(hit.was)}` : m.text}</figcaption></figure>`;
    })}</div>
  </li>`;
}

export { page as view };
function page() {
  const here = space();
  const now = band();
  if (preparing()) return html`<div class="head"><h1>Spectrum</h1></div><p class="working">${preparing()}</p>`;
  if (!here?.directions) return html`<div class="head"><h1>Spectrum</h1>${picker()}</div><div class="empty"><b>No band to move</b>${here ? 'This space has the band that it was made with.' : 'No adapted space can be used for this table.'}</div>`;
  const auto = evidence?.available ? evidence.band : null;
  return html`<div class="head"><h1>Spectrum</h1>${picker()}<p>${now ? `${cuts(now, here.directions).replace(/^./, (c) => c.toUpperCase())}. ` : ''}Directions that pictures and words share lie in the middle; drag a handle, and everything below ranks anew.</p></div>
    <div class="two">
      <section class="panel" aria-label="Spectrum">${curve({ move, auto })}
        ${here.name === 'isoclip' && now ? html`<div class="bar saved"><a class="button" href="/api/export/space?k_top=${now[0]}&k_bottom=${now[1]}" download>Save this space</a></div>` : nothing}</section>
      <section class="panel" aria-label="Which band?"><h2>Which band?</h2>${here.name === 'isoclip' ? heat() : html`<p>Bands are scored for isoclip.</p>`}</section>
    </div>
    <div class="section"><h2>Pinned queries</h2><p>${ranked?.candidates ? `Ranked among the ${count(ranked.candidates)} nearest of the plain space. ` : ''}The arrows are against the plain space. Select pictures anywhere and press Pin to have others here.</p>
      ${ranked?.band && now && String(ranked.band) !== String(now) ? html`<span class="dim small num">showing ${ranked.band[0]} / ${ranked.band[1]}</span>` : nothing}</div>
    ${problem ? html`<div class="empty" role="alert"><b>That did not work</b>${problem}</div>` : nothing}
    ${working ? html`<p class="working">${working}</p>` : nothing}
    ${ranked ? html`<ul class="pins panel">${repeat(ranked.queries, (/** @type {any} */ q) => q.key, pin)}</ul>` : working || problem ? nothing : html`<p class="working">Ranking</p>`}`;
}
