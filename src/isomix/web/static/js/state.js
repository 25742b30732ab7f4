// What is looked at, kept in the address: a link or a reload shows the same again.
// @ts-check

/**
 * @typedef {object} View
 * @property {string} page  one of PAGES
 * @property {string} q  key of the query, "" without one
 * @property {string} space  adapted space, "" for the first that can be used
 * @property {[number, number] | null} band  directions cut at the top and the bottom, null for the space's own
 * @property {number[]} sel  selected rows, ascending
 * @property {string} kept  name of a selection that is too long for an address
 * @property {number[]} pins  rows of the pinned queries
 * @property {number} k  hits a side
 * @property {number} t  threshold of duplicates
 */

export const PAGES = ['search', 'spectrum', 'map', 'classes', 'duplicates', 'report'];
const LONGEST = 1500;

/** Rows as "3-5,9". @param {Iterable<number>} rows */
export function toRanges(rows) {
  const sorted = [...new Set(rows)].sort((a, b) => a - b);
  const parts = [];
  for (let i = 0; i < sorted.length; i++) {
    const first = sorted[i];
    while (sorted[i + 1] === sorted[i] + 1) i++;
    parts.push(first === sorted[i] ? `${first}` : `${first}-${sorted[i]}`);
  }
  return parts.join(',');
}

/** "3-5,9" as rows; what is no number is left out. @param {string} text @returns {number[]} */
export function fromRanges(text) {
  const rows = [];
  for (const part of text.split(',')) {
    const found = /^(\d{1,9})(?:-(\d{1,9}))?$/.exec(part);
    if (!found) continue;
    const [first, last] = [Number(found[1]), Number(found[2] ?? found[1])];
    for (let row = first; row <= last && rows.length < 100000; row++) rows.push(row);
  }
  return [...new Set(rows)].sort((a, b) => a - b);
}

/** @param {string} path @param {string} query @returns {View} */
export function readAddress(path, query) {
  const given = new URLSearchParams(query);
  const name = path.replace(/^\/+|\/+$/g, '') || 'search';
  const band = /^(\d{1,5})-(\d{1,5})$/.exec(given.get('band') ?? '');
  const number = (/** @type {string} */ key, /** @type {number} */ low, /** @type {number} */ high, /** @type {number} */ usual) => {
    const value = Number(given.get(key) ?? NaN);
    return Number.isFinite(value) && value >= low && value <= high ? value : usual;
  };
  return {
    page: PAGES.includes(name) ? name : 'search',
    q: given.get('q') ?? '',
    space: given.get('space') ?? '',
    band: band ? [Number(band[1]), Number(band[2])] : null,
    sel: fromRanges(given.get('sel') ?? ''),
    kept: /^[0-9a-f]{16}$/.test(given.get('kept') ?? '') ? /** @type {string} */ (given.get('kept')) : '',
    pins: fromRanges(given.get('pins') ?? '').slice(0, 9),
    k: Math.round(number('k', 1, 400, 24)),
    t: number('t', -1, 1, 0.97),
  };
}

/** @param {View} view */
export function writeAddress(view) {
  const out = new URLSearchParams();
  if (view.q) out.set('q', view.q);
  if (view.space) out.set('space', view.space);
  if (view.band) out.set('band', view.band.join('-'));
  const ranges = toRanges(view.sel);
  if (view.kept) out.set('kept', view.kept);
  else if (ranges && ranges.length <= LONGEST) out.set('sel', ranges);
  if (view.pins.length) out.set('pins', toRanges(view.pins));
  if (view.k !== 24) out.set('k', `${view.k}`);
  if (view.t !== 0.97) out.set('t', `${view.t}`);
  const query = out.toString().replaceAll('%3A', ':').replaceAll('%2C', ',');
  return `/${view.page === 'search' ? '' : view.page}${query ? `?${query}` : ''}`;
}

/** Whether a selection has to be kept by the server to be part of an address. @param {number[]} rows */
export const tooLong = (rows) => toRanges(rows).length > LONGEST;
