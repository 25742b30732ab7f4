// Map: every picture a point, in the plain space and in the adapted one.
// @ts-check
import { html, nothing } from '../vendor/lit-html/lit-html.js';
import { ask } from '../js/api.js';
import { card, nameOf, pictureOf } from '../js/cards.js';
import { count, plural } from '../js/format.js';
import { HUES, Plane } from '../js/plane.js';
import { picker } from '../js/spaces.js';
import { band, describe, draw, known, select, setSelection, space, table, view } from '../js/store.js';

export const title = 'Map';
const LISTED = 60;
const plane = new Plane();
plane.onSprites = () => paint();
/** @type {any} */
let layout = null;
let working = '';
let problem = '';
let made = '';
let tool = 'move';
let method = 'auto';
/** @type {string[]} */
let names = [];
/** @type {{x: number, y: number, row: number} | null} */
let tip = null;
let listed = LISTED;

const canvas = () => /** @type {HTMLCanvasElement | null} */ (document.querySelector('.plane canvas'));
function paint() {
  const target = canvas();
  if (target) plane.paint(target);
}
new ResizeObserver(paint).observe(document.body);
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => setTimeout(paint, 50));

export async function enter() {
  plane.chosen = new Set(view.sel);
  const here = space();
  const [top, bottom] = band() ?? [0, 0];
  const query = `space=${encodeURIComponent(here?.name ?? 'isoclip')}&k_top=${top}&k_bottom=${bottom}&method=${method}`;
  if (made === query) return;
  problem = '';
  working = 'Laying out the pictures';
  draw();
  try {
    const found = await ask(`/api/layout?${query}`, { working: (what) => ((working = what), draw()) });
    const numbers = new Float32Array(await ask(`/api/layout.bin?${query}`, { binary: true }));
    const labels = await ask('/api/codes');
    plane.plain = numbers.subarray(0, 2 * found.rows);
    plane.adapted = found.adapted ? numbers.subarray(2 * found.rows) : null;
    plane.codes = Int16Array.from(labels.codes);
    names = labels.names;
    layout = found;
    made = query;
  } catch (error) {
    problem = String(/** @type {Error} */ (error).message);
  }
  working = '';
  draw();
}
/** @param {any} before */
export function changed(before) {
  plane.chosen = new Set(view.sel);
  listed = LISTED;
  if (view.sel !== before.sel) describe(view.sel.slice(0, listed)).catch(() => {});
  if (view.space !== before.space || String(view.band) !== String(before.band)) enter();
}
export function drawn() {
  plane.chosen = new Set(view.sel);
  paint();
}

/** @param {number} goal */
function morphTo(goal) {
  if (matchMedia('(prefers-reduced-motion: reduce)').matches) {
    plane.morph = goal;
    return draw();
  }
  const [from, began] = [plane.morph, performance.now()];
  const step = (/** @type {number} */ now) => {
    const t = Math.min(1, (now - began) / 900);
    plane.morph = from + (goal - from) * (t * t * (3 - 2 * t));
    draw();
    if (t < 1) requestAnimationFrame(step);
  };
  requestAnimationFrame(step);
}

/** Fingers on the canvas, and how far two of them were apart. @type {Map<number, [number, number]>} */
const fingers = new Map();
let apart = 0;

/** Two fingers zoom about the middle between them. @param {number} w @param {number} h */
function pinch(w, h) {
  const [[x0, y0], [x1, y1]] = [...fingers.values()];
  const now = Math.hypot(x0 - x1, y0 - y1);
  if (apart && now) plane.zoom(now / apart, (x0 + x1) / 2, (y0 + y1) / 2, w, h);
  apart = now;
  paint();
}

/** @param {PointerEvent} event */
function pointerDown(event) {
  const target = /** @type {HTMLCanvasElement} */ (event.currentTarget);
  const box = target.getBoundingClientRect();
  const [w, h] = [box.width, box.height];
  const place = (/** @type {PointerEvent} */ e) => /** @type {[number, number]} */ ([e.clientX - box.left, e.clientY - box.top]);
  const [x0, y0] = place(event);
  const first = plane.toPlane(x0, y0, w, h);
  const camera = { ...plane.camera };
  fingers.set(event.pointerId, [x0, y0]);
  apart = 0;
  let far = fingers.size > 1;
  target.setPointerCapture(event.pointerId);
  const moving = (/** @type {PointerEvent} */ e) => {
    if (e.pointerId !== event.pointerId) return;
    const [x, y] = place(e);
    fingers.set(e.pointerId, [x, y]);
    if (fingers.size > 1) return (far = true), (plane.outline = []), pinch(w, h);
    far ||= Math.hypot(x - x0, y - y0) > 4;
    if (!far) return;
    if (tool === 'move') {
      const s = plane.scale(w, h);
      plane.camera = { ...camera, x: camera.x - (x - x0) / s, y: camera.y - (y - y0) / s };
    } else {
      const now = plane.toPlane(x, y, w, h);
      if (tool === 'lasso') plane.outline = plane.outline.length ? [...plane.outline, now] : [first, now];
      else plane.outline = [first, [now[0], first[1]], now, [first[0], now[1]]];
    }
    paint();
  };
  const done = (/** @type {PointerEvent} */ e) => {
    if (e.pointerId !== event.pointerId) return;
    fingers.delete(e.pointerId);
    target.removeEventListener('pointermove', moving);
    target.removeEventListener('pointerup', done);
    target.removeEventListener('pointercancel', done);
    if (far && tool !== 'move' && plane.outline.length > 1) {
      const rows = plane.inside(plane.outline);
      plane.outline = [];
      if (e.shiftKey) select(rows, true);
      else setSelection(rows);
    } else if (!far) {
      const row = plane.pick(x0, y0, w, h, 24);
      if (row >= 0) select([row]);
    }
    paint();
  };
  target.addEventListener('pointermove', moving);
  target.addEventListener('pointerup', done);
  target.addEventListener('pointercancel', done);
}

/** @param {PointerEvent} event */
async function hover(event) {
  if (event.buttons || event.pointerType === 'touch') return;
  const target = /** @type {HTMLCanvasElement} */ (event.currentTarget);
  const [w, h] = [target.clientWidth, target.clientHeight];
  const row = plane.pick(event.offsetX, event.offsetY, w, h);
  if (row === plane.hover) return;
  plane.hover = row;
  tip = row < 0 ? null : { row, x: Math.min(event.offsetX + 14, w - 136), y: Math.min(event.offsetY + 14, h - 150) };
  if (row >= 0 && !known.has(row)) describe([row]).catch(() => {});
  draw();
}

/** @param {WheelEvent} event */
function wheel(event) {
  event.preventDefault();
  const target = /** @type {HTMLCanvasElement} */ (event.currentTarget);
  plane.zoom(Math.exp(-event.deltaY * 0.0016), event.offsetX, event.offsetY, target.clientWidth, target.clientHeight);
  tip = null;
  draw();
}

/** @param {KeyboardEvent} event */
function keys(event) {
  const step = 0.12 / plane.camera.zoom;
  const move = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }[event.key];
  if (move) {
    plane.camera.x += move[0];
    plane.camera.y += move[1];
  } else if (event.key === '+' || event.key === '=') zoomBy(1.5);
  else if (event.key === '-') zoomBy(1 / 1.5);
  else return;
  event.preventDefault();
  paint();
}

/** @param {number} factor */
function zoomBy(factor) {
  const target = canvas();
  if (target) plane.zoom(factor, target.clientWidth / 2, target.clientHeight / 2, target.clientWidth, target.clientHeight);
  draw();
}

/** Select what is in sight: the click way of a rectangle. */
function selectVisible() {
  const target = canvas();
  if (target) setSelection(plane.visible(target.clientWidth, target.clientHeight));
}

function tools() {
  const button = (/** @type {string} */ name, /** @type {string} */ words) => html`<button aria-pressed=${tool === name} @click=${() => ((tool = name), draw())}>${words}</button>`;
  return html`<div class="bar tools">
    <span role="group" aria-label="Drag to" class="bar">${button('move', 'Move')}${button('rectangle', 'Rectangle')}${button('lasso', 'Lasso')}</span>
    <span class="bar"><button aria-label="Zoom in" @click=${() => zoomBy(1.6)}>+</button><button aria-label="Zoom out" @click=${() => zoomBy(1 / 1.6)}>−</button>
      <button @click=${() => (plane.fit(view.sel), draw())}>${view.sel.length ? 'Zoom to selection' : 'All'}</button>
      <button @click=${selectVisible}>Select what is in sight</button></span>
    <span class="grow"></span>
    ${plane.adapted
      ? html`<span class="morph"><button class="quiet" @click=${() => morphTo(0)}>plain</button>
          <input type="range" min="0" max="1" step="0.01" aria-label="From the plain to the adapted layout" .value=${`${plane.morph}`} @input=${(/** @type {any} */ e) => ((plane.morph = Number(e.target.value)), draw())} />
          <button class="quiet" @click=${() => morphTo(1)}>${space()?.title ?? 'adapted'}</button></span>`
      : html`<span class="dim small">${layout?.reason}</span>`}
  </div>`;
}

function labels() {
  if (!names.length) return nothing;
  const shown = names.slice(0, 30);
  const rowsOf = (/** @type {number} */ code) => [.../** @type {Int16Array} */ (plane.codes)].flatMap((c, row) => (c === code ? [row] : []));
  return html`<div class="names" role="group" aria-label="Select by label">
    ${shown.map((name, code) => html`<button @click=${() => setSelection(rowsOf(code))}><i class="h${code < HUES.length ? code : 'x'}"></i>${name}</button>`)}
    ${names.length > shown.length ? html`<span class="dim small">and ${plural(names.length - shown.length, 'label')} more, in grey</span>` : nothing}
  </div>`;
}

function list() {
  const rows = view.sel;
  if (!rows.length) return html`<p class="dim hint">Scroll, pinch or press + to zoom: close up, points become pictures. Click points, draw around them${names.length ? ', or choose a label' : ''}: what is selected is listed here, and every page and export knows it.</p>`;
  const missing = rows.slice(0, listed).filter((row) => !known.has(row));
  if (missing.length) describe(missing).catch(() => {});
  return html`<div class="section"><h2>${plural(rows.length, 'picture')} selected</h2>${rows.length > listed ? html`<p>the first ${count(listed)} are listed</p>` : nothing}</div>
    <ul class="grid">${rows.slice(0, listed).map((row) => card(row))}</ul>
    ${rows.length > listed ? html`<div class="more"><button @click=${() => ((listed *= 2), draw())}>Show ${count(Math.min(listed * 2, rows.length))} of ${count(rows.length)}</button></div>` : nothing}`;
}

export { page as view };
function page() {
  const head = html`<div class="head"><h1>Map</h1>${picker()}<p>${layout ? `${plural(table.rows, 'picture')}; ${layout.note}.` : ''}</p>
    ${layout?.method === 'pca' && layout.note.includes('more than') ? html`<button @click=${() => ((method = 'tsne'), enter())}>Compute t-SNE all the same</button>` : nothing}</div>`;
  if (problem) return html`${head}<div class="empty" role="alert"><b>That did not work</b>${problem}</div>`;
  if (!layout) return html`${head}<p class="working">${working}</p>`;
  return html`${head}${working ? html`<p class="working">${working}</p>` : nothing}${tools()}
    <div class="plane">
      <canvas tabindex="0" role="img" aria-label="Map of ${count(table.rows)} pictures: arrows move, plus and minus zoom; the selection is listed below" @pointerdown=${pointerDown} @pointermove=${hover} @pointerleave=${() => ((tip = null), (plane.hover = -1), draw())} @wheel=${wheel} @keydown=${keys}></canvas>
      ${tip && known.has(tip.row) ? html`<div class="tip" .style=${`left:${tip.x}px;top:${tip.y}px`}><img src=${pictureOf(tip.row, 256)} alt="" /><p>${nameOf(known.get(tip.row))}</p></div>` : nothing}
    </div>
    ${labels()}${list()}`;
}
