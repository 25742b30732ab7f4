// The one view of this window, the table it looks at, and drawing.
// @ts-check
import { ask } from './api.js';
import { readAddress, tooLong, writeAddress } from './state.js';

/** @typedef {import('./state.js').View} View */

/** @type {View} */
export let view = readAddress(location.pathname, location.search);
/** @type {any} */
export let table = null;
/** Rows that the server has described. @type {Map<number, any>} */
export const known = new Map();

/** @type {() => void} */
let paint = () => {};
let waiting = false;

/** @param {() => void} draw */
export const onDraw = (draw) => void (paint = draw);

/** Draw soon, once. */
export function draw() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    paint();
  });
}

/** @type {Set<(before: View) => void>} */
const listeners = new Set();
/** @param {(before: View) => void} listener */
export const onChange = (listener) => void listeners.add(listener);

/**
 * Look at something else.
 * @param {Partial<View>} patch
 * @param {{replace?: boolean}} [options]  replace: no new entry in the history
 */
export function go(patch, { replace = false } = {}) {
  const before = view;
  view = { ...view, ...patch };
  const address = writeAddress(view);
  if (address !== location.pathname + location.search) history[replace ? 'replaceState' : 'pushState'](null, '', address);
  for (const listener of listeners) listener(before);
  draw();
}

addEventListener('popstate', () => {
  const before = view;
  view = readAddress(location.pathname, location.search);
  for (const listener of listeners) listener(before);
  draw();
});

/** The address of the view with some things changed. @param {Partial<View>} patch */
export const address = (patch) => writeAddress({ ...view, ...patch });

/** @param {any[] | undefined} rows */
export function learn(rows) {
  for (const row of rows ?? []) known.set(row.row, row);
}

/** Describe rows that are not known yet. @param {number[]} rows */
export async function describe(rows) {
  const asked = rows.filter((row) => !known.has(row));
  for (let i = 0; i < asked.length; i += 200) {
    const answer = await ask(`/api/rows?rows=${asked.slice(i, i + 200).join(',')}`);
    learn(answer.rows);
  }
  draw();
}

/** The adapted space that is shown. */
export function space() {
  const usable = table?.spaces.filter((/** @type {any} */ s) => !s.reason) ?? [];
  return usable.find((/** @type {any} */ s) => s.name === view.space) ?? usable[0] ?? null;
}

/** Its band: the one in the address, or the space's own; null where it has none. @returns {[number, number] | null} */
export function band() {
  const here = space();
  if (!here?.directions) return null;
  const [top, bottom] = view.band ?? here.band;
  return top + bottom < here.directions ? [top, bottom] : here.band;
}

/** Select or deselect rows. @param {number[]} rows @param {boolean} [on]  without it: turn each over */
export function select(rows, on) {
  const chosen = new Set(view.sel);
  for (const row of rows) {
    if (on ?? !chosen.has(row)) chosen.add(row);
    else chosen.delete(row);
  }
  setSelection([...chosen]);
}

/** @param {number[]} rows */
export async function setSelection(rows) {
  const sel = [...rows].sort((a, b) => a - b);
  go({ sel, kept: '' }, { replace: true });
  if (tooLong(sel)) {
    const { selection } = await ask('/api/selections', { body: { rows: sel } });
    if (view.sel === sel) go({ kept: selection }, { replace: true });
  }
}

/** What an export of the selection names. */
export const selectionName = () => (view.kept ? `s:${view.kept}` : view.sel.join(','));

export async function loadTable() {
  table = await ask('/api/table');
  draw();
}

/** @type {{text: string, until: number}} */
export const toast = { text: '', until: 0 };
/** A sentence at the foot of the page for some seconds. @param {string} text */
export function say(text) {
  Object.assign(toast, { text, until: Date.now() + 6000 });
  draw();
  setTimeout(draw, 6100);
}
/** @param {unknown} error */
export const sayError = (error) => {
  if (/** @type {Error} */ (error)?.name !== 'AbortError') say(String(/** @type {Error} */ (error)?.message ?? error));
};
