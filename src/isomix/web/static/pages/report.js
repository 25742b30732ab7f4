// Report: one file with pictures inside.
// @ts-check
import { html, nothing } from '../vendor/lit-html/lit-html.js';
import { ask } from '../js/api.js';
import { cuts, evidence as inWords, plural } from '../js/format.js';
import { picker } from '../js/spaces.js';
import { band, draw, sayError, space, table } from '../js/store.js';

export const title = 'Report';
/** @type {any} */
let votes = null;
/** @type {any} */
let classes = null;
/** @type {any} */
let bands = null;
let seed = 0;

export async function enter() {
  const quiet = () => null;
  [votes, classes] = await Promise.all([ask('/api/votes').catch(quiet), ask('/api/classes').catch(quiet)]);
  draw();
  bands = await ask('/api/bands').catch((error) => ({ words: error.message }));
  draw();
}

let saving = '';
/** The file takes a moment; it is fetched here so that the page can say what is being done. */
async function save() {
  const [top, bottom] = band() ?? [0, 0];
  saving = 'Drawing the report';
  draw();
  try {
    const address = `/api/export/report?space=${encodeURIComponent(space()?.name ?? 'isoclip')}&k_top=${top}&k_bottom=${bottom}&seed=${seed}`;
    const content = await ask(address, { binary: true, working: (what) => ((saving = what), draw()) });
    const link = Object.assign(document.createElement('a'), {
      href: URL.createObjectURL(new Blob([content], { type: 'text/html' })),
      download: `${table.name.replace(/\.lance$/, '')}-report.html`,
    });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  } catch (error) {
    sayError(error);
  }
  saving = '';
  draw();
}

export { page as view };
function page() {
  const here = space();
  const [top, bottom] = band() ?? [0, 0];
  const part = (/** @type {string} */ name, /** @type {any} */ body) => html`<section class="panel"><h2>${name}</h2><p>${body}</p></section>`;
  const labelled = classes?.classes.reduce((/** @type {number} */ n, /** @type {any} */ c) => n + c.rows.length, 0) ?? 0;
  return html`<div class="head"><h1>Report</h1>${picker()}<p>One HTML file with the pictures inside: to keep, to send, to put beside a decision. It opens anywhere and loads nothing.</p></div>
    <div class="bar"><button class="primary" ?disabled=${!!saving} @click=${save}>Save the report</button>
      <button @click=${() => ((seed = (seed + 1) % 1000000), draw())}>Other examples${seed ? ` (${seed})` : ''}</button>${saving ? html`<span class="working">${saving}</span>` : nothing}</div>
    <div class="parts">
      ${part('The table', `${table.name}: ${plural(table.rows, 'picture')}, model ${table.model}.`)}
      ${part('Side by side', `Six queries in the plain space and in ${here?.title ?? 'none'}${here?.directions ? `, which ${cuts([top, bottom], here.directions)}` : ''}.`)}
      ${part('Which band', bands?.words ?? 'Scoring bands …')}
      ${part('Votes', votes?.total ? inWords(votes) : 'None yet: vote above the results of any search.')}
      ${part('Classes', labelled ? `${plural(labelled, 'label')} in ${plural(classes.classes.length, 'class', 'classes')}${classes.accuracy ? `, ${(100 * classes.accuracy.share).toFixed(0)} % recognised when left out` : ''}.` : 'None yet.')}
    </div>
    <p class="dim small">Other files: <a href="/api/export/labels" download>labels</a>, and the exports of Classes, Duplicates and of any selection.</p>`;
}
