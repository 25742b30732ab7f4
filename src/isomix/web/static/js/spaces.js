// The adapted space: chosen on every page that shows it, with a word on what each is, and why some are not at hand.
// @ts-check
import { html, nothing } from '../vendor/lit-html/lit-html.js';
import { go, space, table } from './store.js';

/** @typedef {{name: string, title: string, reason: string, working?: boolean, note?: string, directions?: number}} Space */

/** The choice, or just the name where there is none. */
export function picker() {
  const here = space();
  /** @type {Space[]} */
  const all = table.spaces;
  if (all.filter((s) => !s.reason).length < 2) return html`<span>${here?.title ?? 'adapted'}</span>`;
  return html`<select class="picker" aria-label="Choose the adapted space" @change=${(/** @type {any} */ e) => go({ space: e.target.value, band: null })}>
    ${all.map((s) => html`<option value=${s.name} ?selected=${s.name === here?.name} ?disabled=${!!s.reason}>${s.title}${s.reason ? ' (not at hand)' : ''}</option>`)}
  </select>`;
}

/** What an adapted space is, for who has never heard of it. @param {Space | null} here */
export function inWords(here) {
  if (!here) return preparing() || 'no adapted space can be used for this table';
  if (here.note) return here.note;
  if (here.name === 'isoclip') return 'only the directions that pictures and words share';
  if (here.name === 'text-pca') return 'only the directions in which sentences differ';
  return 'adapted vectors that the table holds';
}

/** What is being done before any space can be used; empty when nothing is. */
export const preparing = () => (space() ? '' : (table.spaces.find((/** @type {Space} */ s) => s.working)?.reason ?? ''));

/** Why some spaces cannot be chosen. */
export function missing() {
  /** @type {Space[]} */
  const lacking = table.spaces.filter((/** @type {Space} */ s) => s.reason && !s.working);
  if (!lacking.length) return nothing;
  return html`<details><summary>Not at hand: ${lacking.map((s) => s.title).join(', ')}</summary>${lacking.map((s) => html`<p><b>${s.title}</b>${s.reason}</p>`)}</details>`;
}
