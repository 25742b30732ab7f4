// Duplicates: identical bytes first, then near ones around a threshold; nothing is ever deleted.
// @ts-check
import { html, nothing } from '../vendor/lit-html/lit-html.js';
import { repeat } from '../vendor/lit-html/directives/repeat.js';
import { ask, latest } from '../js/api.js';
import { picture, strip } from '../js/cards.js';
import { count, plural } from '../js/format.js';
import { draw, go, known, learn, sayError, table, view } from '../js/store.js';

export const title = 'Duplicates';
const PAGE = 30;
/** @type {any} */
let found = null;
let working = '';
let problem = '';
let offset = 0;

const asked = latest(
  (/** @type {any} */ q, signal) => ask(`/api/duplicates?threshold=${q.t}&offset=${q.offset}&limit=${PAGE}`, { signal, working: (what) => ((working = what), draw()) }),
  (answer) => {
    learn(answer.known);
    found = answer;
    working = problem = '';
    draw();
  },
  (error) => {
    working = '';
    problem = error.message;
    draw();
  },
);
const look = () => asked.queue({ t: view.t, offset });
export const enter = () => void look();
export const leave = () => asked.drop();
/** @param {any} before */
export function changed(before) {
  if (view.t !== before.t) {
    offset = 0;
    look();
  }
}

/** @param {number} t */
const move = (t) => go({ t: Math.max(-1, Math.min(1, Number(t.toFixed(3)))) }, { replace: true });

/** @param {any} pair @param {string | null} verdict */
async function judge(pair, verdict) {
  try {
    await ask('/api/verdicts', { body: { left: pair.left, right: pair.right, verdict: pair.verdict === verdict ? null : verdict } });
    look();
  } catch (error) {
    sayError(error);
  }
}

/** @param {any} pair */
function both(pair) {
  const name = (/** @type {number} */ row) => known.get(row)?.name ?? '';
  const button = (/** @type {string} */ verdict) => html`<button aria-pressed=${pair.verdict === verdict} ?disabled=${table.read_only} @click=${() => judge(pair, verdict)}>${verdict}</button>`;
  return html`<li class="pair"><div class="both"><a href="/?q=row:${pair.left}" aria-label=${name(pair.left)}>${picture(pair.left)}</a><a href="/?q=row:${pair.right}" aria-label=${name(pair.right)}>${picture(pair.right)}</a></div>
    <span class="num dim" title=${`${known.get(pair.left)?.path} · ${known.get(pair.right)?.path}`}>cosine ${pair.score.toFixed(4)}</span>
    <div class="bar" role="group" aria-label="Verdict on this pair">${button('same')}${button('different')}${button('later')}</div></li>`;
}

/** @param {any[]} pairs */
const pairs = (pairs) => (pairs.length ? html`<ul class="pairs">${repeat(pairs, (/** @type {any} */ p) => `${p.left}-${p.right}`, both)}</ul>` : html`<p class="dim">None.</p>`);

/** @param {number[][]} groups @param {string} words */
const groups = (groups, words) => html`<ul class="groups">${groups.map((group) => html`<li class="group"><span>${plural(group.length, words)}</span>${strip(group, 14)}</li>`)}</ul>`;

/** How many there are, and which of them are on the page. @param {number} n @param {string} word */
const shown = (n, word) => (n > PAGE ? `${count(Math.min(offset + 1, n))} to ${count(Math.min(offset + PAGE, n))} of ${plural(n, word)}` : plural(n, word));

/** Goes through both kinds of groups at once. */
function pager() {
  const most = Math.max(found.n_groups, found.n_identical);
  if (most <= PAGE) return nothing;
  const turn = (/** @type {number} */ by) => ((offset = Math.max(0, offset + by)), look());
  return html`<span class="bar"><button ?disabled=${!offset} @click=${() => turn(-PAGE)}>Before</button><button ?disabled=${offset + PAGE >= most} @click=${() => turn(PAGE)}>Next</button></span>`;
}

export { page as view };
function page() {
  const head = html`<div class="head"><h1>Duplicates</h1><p>Identical files first, then pictures that nearly are. Verdicts are kept beside the table; nothing is ever deleted.</p></div>`;
  if (problem) return html`${head}<div class="empty" role="alert"><b>That did not work</b>${problem}</div>`;
  if (!found) return html`${head}<p class="working">${working || 'Comparing'}</p>`;
  const bins = found.histogram, most = Math.max(...bins, 1), width = (1 - found.floor) / bins.length;
  const exports = ['csv', 'json', 'html'].map((kind) => html`<a class="button" href="/api/export/duplicates?kind=${kind}&threshold=${view.t}" download>${kind.toUpperCase()}</a>`);
  return html`${head}
    ${found.n_identical ? html`<div class="section"><h2>Identical files</h2><p>${shown(found.n_identical, 'group')} with the same bytes</p>${pager()}</div>${groups(found.identical, 'file')}<div class="tools"></div>` : html`<p class="dim tools">No two files have the same bytes.</p>`}
    <section class="panel" aria-label="Threshold">
      <div class="threshold">
        <div><div class="histogram" aria-hidden="true">${bins.map((/** @type {number} */ n, /** @type {number} */ i) => html`<i class=${found.floor + (i + 0.5) * width >= view.t ? 'in' : ''} .style=${`height:${(100 * Math.sqrt(n / most)).toFixed(1)}%`}></i>`)}</div>
          <input type="range" min=${found.floor} max="1" step="0.001" .value=${`${view.t}`} aria-label="Smallest cosine of duplicates" @input=${(/** @type {any} */ e) => move(Number(e.target.value))} /></div>
        <input type="number" min=${found.floor} max="1" step="0.005" .value=${`${view.t}`} aria-label="Threshold" @change=${(/** @type {any} */ e) => move(Number(e.target.value))} />
      </div>
      <p class="dim small">${plural(found.pairs, 'pair')} at a cosine of ${view.t} or more, in ${plural(found.n_groups, 'group')}.${view.t < found.floor ? ` Pairs below ${found.floor} were not looked for${found.floor > 0.9 ? ': there are more than 300,000' : ''}.` : ''}</p>
      <div class="bar">${exports}<span class="dim small">groups and leaks at this threshold</span></div>
    </section>
    <div class="section"><h2>Just above</h2><p>the last pairs that count as duplicates</p></div>${pairs(found.above)}
    <div class="section"><h2>Just below</h2><p>the first that do not</p></div>${pairs(found.below)}
    ${found.splits.length > 1 ? html`<div class="section"><h2>Leaks between ${found.splits.join(', ')}</h2><p>${plural(found.n_leaks, 'pair')} of duplicates in different splits${found.n_leaks > found.leaks.length ? `; the first ${found.leaks.length} are shown, the exports have all` : ''}</p></div>
      <ul class="pairs">${found.leaks.map((/** @type {any} */ leak) => html`<li class="pair"><div class="both">${[leak.left, leak.right].map((row) => html`<a href="/?q=row:${row}" aria-label=${known.get(row)?.name ?? ''}>${picture(row)}</a>`)}</div><span class="num dim">${known.get(leak.left)?.split} / ${known.get(leak.right)?.split} · ${leak.score.toFixed(3)}</span></li>`)}</ul>` : nothing}
    <div class="section"><h2>Groups</h2><p>${shown(found.n_groups, 'group')} of near pictures</p>${pager()}</div>
    ${groups(found.groups, 'picture')}`;
}
