// Pictures as they stand on every page.
// @ts-check
import { html, nothing } from '../vendor/lit-html/lit-html.js';
import { address, go, known, select, view } from './store.js';

/** The address of a row's picture; the version makes it that of this content. @param {number} row @param {number} size @param {string} [version] */
export const pictureOf = (row, size, version = known.get(row)?.version ?? '') => `/api/picture/${row}?size=${size}&v=${version}`;

/** What a row is called. @param {any} row */
export const nameOf = (row) => row?.mine ?? row?.label ?? row?.name ?? '';

/**
 * A picture, or what can be said where there is none.
 * @param {number} row @param {number} [size] @param {string} [alt]
 */
export function picture(row, size = 256, alt = '') {
  const about = known.get(row);
  if (about?.problem && !about.thumbnail) return placeholder(about);
  return html`<img
    src=${pictureOf(row, about?.problem ? 96 : size)}
    alt=${alt}
    loading="lazy"
    decoding="async"
    draggable="false"
  />`;
}

/** @param {any} about */
export function placeholder(about) {
  const words = about.problem === 'outside' ? 'outside the table’s folder' : 'file not found';
  return html`<div class="gone" title=${about.path}><b>${words}</b><span>${about.path}</span></div>`;
}

/** Mark every card of a row, on both sides. @param {string | undefined} row */
function tie(row) {
  for (const card of document.querySelectorAll('.card.tied')) card.classList.remove('tied');
  if (row === undefined) return;
  const same = document.querySelectorAll(`.card[data-row="${CSS.escape(row)}"]`);
  if (same.length > 1) for (const card of same) card.classList.add('tied');
}
for (const kind of ['pointerover', 'focusin'])
  document.addEventListener(kind, (event) => tie(/** @type {HTMLElement | null} */ (/** @type {HTMLElement} */ (event.target).closest?.('.card'))?.dataset.row));

/**
 * @param {number} row
 * @param {object} [options]
 * @param {any} [options.left]  below the picture, left
 * @param {any} [options.right]  below the picture, right
 * @param {string} [options.words]  the same for those who listen
 * @param {string} [options.title]
 */
export function card(row, { left = nothing, right = nothing, words = '', title = '' } = {}) {
  const about = known.get(row);
  const chosen = view.sel.includes(row);
  const name = nameOf(about);
  const target = address({ page: 'search', q: `row:${row}` });
  return html`<li
    class="card ${chosen ? 'chosen' : ''}"
    data-row=${row}
    draggable="true"
    @dragstart=${(/** @type {DragEvent} */ event) => {
      const rows = chosen ? view.sel : [row];
      event.dataTransfer?.setData('application/x-isomix-rows', rows.join(','));
    }}
  >
    <a
      class="face"
      href=${target}
      title=${[title, about?.path].filter(Boolean).join(' · ')}
      aria-label=${`${name}${words ? `, ${words}` : ''}: search for it`}
      @click=${(/** @type {MouseEvent} */ event) => follow(event, { page: 'search', q: `row:${row}` })}
      >${picture(row)}</a
    >
    <button
      class="pick"
      aria-pressed=${chosen}
      aria-label=${`Select ${about?.name ?? `picture ${row}`}`}
      @click=${() => select([row])}
    >
      ✓
    </button>
    <p class="meta"><span>${left}</span>${right}</p>
    <p class="name" title=${about?.path ?? ''}>${name}</p>
  </li>`;
}

/** Follow a link within the page, unless a new tab is meant. @param {MouseEvent} event @param {any} patch */
export function follow(event, patch) {
  if (event.metaKey || event.ctrlKey || event.shiftKey || event.button) return;
  event.preventDefault();
  go(patch);
  if (patch.q) {
    scrollTo({ top: 0 });
    // What was clicked may be gone from the page; the next Tab begins with the new results.
    document.getElementById('page')?.focus({ preventScroll: true });
  }
}

/** Small pictures in a line. @param {number[]} rows @param {number} [most] */
export function strip(rows, most = 12) {
  const rest = rows.length - most;
  return html`<div class="mini">
    ${rows.slice(0, most).map((row) => html`<a href=${address({ page: 'search', q: `row:${row}` })} aria-label=${`${nameOf(known.get(row))}: search for it`} @click=${(/** @type {MouseEvent} */ e) => follow(e, { page: 'search', q: `row:${row}` })}>${picture(row, 96)}</a>`)}
    ${rest > 0 ? html`<span class="dim small">and ${rest} more</span>` : nothing}
  </div>`;
}
