// The curve of singular values is the slider: two handles, moved by pointer, click, arrow keys or numbers.
// @ts-check
import { html, nothing, svg } from '../vendor/lit-html/lit-html.js';
import { ask } from './api.js';
import { count } from './format.js';
import { band, draw, space } from './store.js';

const TALL = 236, TOP = 12, FOOT = 30;
let W = 700, H = TALL;

// Drawn in pixels, so that type and handles keep their size at every width.
const measured = new ResizeObserver(([entry]) => {
  const width = Math.max(240, Math.round(entry.contentRect.width));
  if (width !== W) (W = width), draw();
});
/** @type {Element | null} */
let watched = null;
/** Follow the width of the curve on the page. */
function watch() {
  const area = document.querySelector('.curve');
  if (area === watched) return;
  measured.disconnect();
  watched = area;
  if (area) measured.observe(area);
}


/** @type {Map<string, any>} */
const curves = new Map();

/** Curve of the space that is shown; undefined while it is fetched, null where it has none. */
export function curveOf() {
  const here = space();
  if (!here?.directions) return null;
  const name = here.name;
  if (!curves.has(name)) {
    curves.set(name, undefined);
    ask(`/api/spectrum?space=${encodeURIComponent(name)}`)
      .then((found) => curves.set(name, found))
      .catch((error) => curves.set(name, { error: error.message }))
      .finally(draw);
  }
  return curves.get(name);
}

/** @param {number[]} values @param {number} low @param {number} span */
function line(values, low, span) {
  const last = Math.max(values.length - 1, 1);
  return 'M' + values.map((v, i) => `${((i / last) * W).toFixed(1)} ${y(v, low, span)}`).join('L');
}
const y = (/** @type {number} */ v, /** @type {number} */ low, /** @type {number} */ span) =>
  (TOP + (1 - (Math.log10(Math.max(v, 1e-6)) - low) / span) * (H - TOP - FOOT)).toFixed(1);

/**
 * @param {object} options
 * @param {(band: [number, number], settled: boolean) => void} options.move
 * @param {[number, number] | null} [options.auto]  the automatic choice, marked
 * @param {number} [options.height]  in pixels
 */
export function curve({ move, auto = null, height = TALL }) {
  H = height;
  const found = curveOf();
  const here = band();
  if (found === null) return html`<p class="dim">This space has no band that could be moved.</p>`;
  if (found === undefined || !here) return html`<p class="working">Reading the spectrum</p>`;
  if (found.error) return html`<p class="dim">${found.error}</p>`;
  requestAnimationFrame(watch);
  const n = found.directions;
  const all = [...found.values, ...(found.control ?? [])].map((v) => Math.log10(Math.max(v, 1e-6)));
  const low = Math.min(...all), span = Math.max(Math.max(...all) - low, 1e-9);
  const [top, bottom] = here;
  const x = (/** @type {number} */ d) => (d / n) * W;
  const marks = [];
  if (found.preset) marks.push({ name: 'preset', at: found.preset });
  if (auto) marks.push({ name: 'automatic', at: auto });
  return html`<div class="curve" @pointerdown=${(/** @type {PointerEvent} */ e) => drag(e, n, move)}>
      <svg viewBox="0 0 ${W} ${H}" height=${H} aria-hidden="false" role="group" aria-label="Singular values, largest first, and the band that is kept">
        ${svg`<rect x=${x(top)} y=${TOP - 8} width=${Math.max(0, x(n - bottom) - x(top))} height=${H - TOP - FOOT + 16} rx="4" fill="var(--tint)"/>
        ${found.control ? svg`<path d=${line(found.control, low, span)} fill="none" stroke="var(--plain)" stroke-dasharray="6 5" stroke-width="1.6"/>` : nothing}
        <path d=${line(found.values, low, span)} fill="none" stroke="var(--iso)" stroke-width="2.8" stroke-linejoin="round"/>
        ${marks.map((m, i) => svg`<g><path d="M${x(m.at[0])} ${H - FOOT + 4}H${x(n - m.at[1])}" stroke=${i ? 'var(--new)' : 'var(--edge)'} stroke-width="3" transform="translate(0 ${i * 6})"/></g>`)}
        ${handle('top', x(top), top, n - bottom - 1, n, here, move)}
        ${handle('bottom', x(n - bottom), bottom, n - top - 1, n, here, move)}`}
      </svg>
    </div>
    <div class="legend" aria-hidden="true">
      <span><i class="model"></i>this model</span>
      ${found.control ? html`<span><i class="dash"></i>random projectors</span>` : nothing}
      ${marks.map((m, i) => html`<span><i class=${i ? 'auto' : 'preset'}></i>${m.name} ${m.at[0]} / ${m.at[1]}</span>`)}
    </div>
    <div class="band-numbers">
      <label>largest cut <input type="number" min="0" max=${n - bottom - 1} .value=${`${top}`} data-cut="top" @change=${(/** @type {any} */ e) => typed(e, 0, n, move)} /></label>
      <label>smallest cut <input type="number" min="0" max=${n - top - 1} .value=${`${bottom}`} data-cut="bottom" @change=${(/** @type {any} */ e) => typed(e, 1, n, move)} /></label>
      <span class="dim num">keeps ${count(n - top - bottom)} of ${count(n)} directions</span>
      <span class="bar">
        ${found.preset ? html`<button @click=${() => move([found.preset[0], found.preset[1]], true)}>Preset</button>` : nothing}
        ${auto ? html`<button @click=${() => move([auto[0], auto[1]], true)}>Automatic</button>` : nothing}
        <button @click=${() => move([0, 0], true)}>Whole spectrum</button>
      </span>
    </div>`;
}

/** @param {any} e @param {number} place @param {number} n @param {any} move */
function typed(e, place, n, move) {
  const now = /** @type {[number, number]} */ ([...(band() ?? [0, 0])]);
  const value = Math.round(Number(e.target.value));
  now[place] = Math.max(0, Math.min(Number.isFinite(value) ? value : 0, n - 1 - now[1 - place]));
  e.target.value = `${now[place]}`;
  move(now, true);
}

/** @param {'top' | 'bottom'} which @param {number} at @param {number} value @param {number} most @param {number} n @param {[number, number]} here @param {any} move */
function handle(which, at, value, most, n, here, move) {
  const place = which === 'top' ? 0 : 1;
  const words = which === 'top' ? 'largest directions cut' : 'smallest directions cut';
  const mid = TOP + (H - TOP - FOOT) / 2;
  return svg`<g class="handle" tabindex="0" role="slider" data-handle=${which} aria-label=${words} aria-valuemin="0" aria-valuemax=${most}
    aria-valuenow=${value} aria-valuetext=${`${value} of ${n}`}
    @keydown=${(/** @type {KeyboardEvent} */ e) => {
      const outward = which === 'top' ? 1 : -1;
      const step = { ArrowRight: outward, ArrowLeft: -outward, ArrowUp: 1, ArrowDown: -1, PageUp: 16, PageDown: -16, Home: -n, End: n }[e.key];
      if (step === undefined) return;
      e.preventDefault();
      // The band of this moment: keys may come faster than pages are drawn.
      const now = /** @type {[number, number]} */ ([...(band() ?? here)]);
      now[place] = Math.max(0, Math.min(n - 1 - now[1 - place], now[place] + step * (e.shiftKey ? 16 : 1)));
      move(now, true);
    }}>
    <rect x=${at - 18} y=${TOP - 8} width="36" height=${H - TOP - FOOT + 16} class="reach"/>
    <line x1=${at} x2=${at} y1=${TOP - 8} y2=${H - FOOT + 8}/>
    <rect class="grip" x=${at - 7} y=${mid - 17} width="14" height="34" rx="7"/>
    <text x=${Math.max(20, Math.min(W - 20, at))} y=${H - 6} text-anchor=${at < 60 ? 'start' : at > W - 60 ? 'end' : 'middle'}>${value}</text>
  </g>`;
}

/** @param {PointerEvent} event @param {number} n @param {(band: [number, number], settled: boolean) => void} move */
function drag(event, n, move) {
  if (event.button) return;
  const area = /** @type {HTMLElement} */ (event.currentTarget);
  const box = area.getBoundingClientRect();
  const direction = (/** @type {PointerEvent} */ e) => Math.round(Math.max(0, Math.min(1, (e.clientX - box.left) / box.width)) * n);
  const start = /** @type {[number, number]} */ ([...(band() ?? [0, 0])]);
  const at = direction(event);
  const place = Math.abs(at - start[0]) <= Math.abs(at - (n - start[1])) ? 0 : 1;
  const to = (/** @type {PointerEvent} */ e) => {
    const now = /** @type {[number, number]} */ ([...start]);
    now[place] = place ? Math.max(0, Math.min(n - direction(e), n - 1 - start[0])) : Math.min(direction(e), n - 1 - start[1]);
    return now;
  };
  area.setPointerCapture(event.pointerId);
  /** @type {HTMLElement | null} */ (area.querySelector(`[data-handle=${place ? 'bottom' : 'top'}]`))?.focus({ preventScroll: true });
  move(to(event), false);
  const moving = (/** @type {PointerEvent} */ e) => move(to(e), false);
  const done = (/** @type {PointerEvent} */ e) => {
    area.removeEventListener('pointermove', moving);
    area.removeEventListener('pointerup', done);
    area.removeEventListener('pointercancel', done);
    move(to(e), true);
  };
  area.addEventListener('pointermove', moving);
  area.addEventListener('pointerup', done);
  area.addEventListener('pointercancel', done);
}
