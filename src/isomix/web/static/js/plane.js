// Points on a canvas: panned, zoomed, morphed between two layouts; close up they become thumbnails.
// @ts-check

export const HUES = ['#1f77d0', '#d9730d', '#1b9e6b', '#b5489a', '#8a6d00', '#7a55e0', '#c23b3b', '#0f8f9e', '#6b8e23', '#d1567a'];
const GREY = '#8d939c';
const CLOSE = 220;
const SHEET = 48;
const MAX_SHEETS = 40;

/** Layouts, camera, and what is chosen; knows no page. */
export class Plane {
  constructor() {
    /** @type {Float32Array | null} */
    this.plain = null;
    /** @type {Float32Array | null} */
    this.adapted = null;
    /** @type {Int16Array | null} */
    this.codes = null;
    this.morph = 0;
    this.camera = { x: 0.5, y: 0.5, zoom: 1 };
    /** @type {Set<number>} */
    this.chosen = new Set();
    /** @type {number[][]} */
    this.outline = [];
    this.hover = -1;
    /** Sprites by row: a picture and where it stands on it. @type {Map<number, {image: HTMLImageElement, x: number, y: number}>} */
    this.sprites = new Map();
    /** @type {Set<number>} */
    this.asked = new Set();
    this.onSprites = () => {};
  }

  get count() {
    return this.plain ? this.plain.length / 2 : 0;
  }

  /** Where a point stands in the unit square. @param {number} i @returns {[number, number]} */
  at(i) {
    const a = /** @type {Float32Array} */ (this.plain);
    const b = this.adapted ?? a;
    const t = this.morph;
    return [a[2 * i] * (1 - t) + b[2 * i] * t, a[2 * i + 1] * (1 - t) + b[2 * i + 1] * t];
  }

  /** @param {number} width @param {number} height */
  scale(width, height) {
    return Math.min(width, height) * 0.94 * this.camera.zoom;
  }

  /** @param {number} x @param {number} y @param {number} w @param {number} h @returns {[number, number]} */
  toScreen(x, y, w, h) {
    const s = this.scale(w, h);
    return [(x - this.camera.x) * s + w / 2, (y - this.camera.y) * s + h / 2];
  }

  /** @param {number} px @param {number} py @param {number} w @param {number} h @returns {[number, number]} */
  toPlane(px, py, w, h) {
    const s = this.scale(w, h);
    return [(px - w / 2) / s + this.camera.x, (py - h / 2) / s + this.camera.y];
  }

  /** Zoom about a place on the screen. @param {number} factor @param {number} px @param {number} py @param {number} w @param {number} h */
  zoom(factor, px, py, w, h) {
    const before = this.toPlane(px, py, w, h);
    this.camera.zoom = Math.max(0.7, Math.min(400, this.camera.zoom * factor));
    const after = this.toPlane(px, py, w, h);
    this.camera.x += before[0] - after[0];
    this.camera.y += before[1] - after[1];
  }

  /** Rows in sight. @param {number} w @param {number} h @param {number} [most] */
  visible(w, h, most = Infinity) {
    const rows = [];
    const [left, top] = this.toPlane(0, 0, w, h);
    const [right, bottom] = this.toPlane(w, h, w, h);
    for (let i = 0; i < this.count && rows.length <= most; i++) {
      const [x, y] = this.at(i);
      if (x >= left && x <= right && y >= top && y <= bottom) rows.push(i);
    }
    return rows;
  }

  /** The nearest point within some pixels, or -1. @param {number} px @param {number} py @param {number} w @param {number} h @param {number} [reach] */
  pick(px, py, w, h, reach = 14) {
    let best = -1, least = reach * reach;
    for (let i = 0; i < this.count; i++) {
      const [x, y] = this.toScreen(...this.at(i), w, h);
      const d = (x - px) ** 2 + (y - py) ** 2;
      if (d < least) (least = d), (best = i);
    }
    return best;
  }

  /** Rows inside a closed line of the plane. @param {number[][]} line */
  inside(line) {
    const rows = [];
    for (let i = 0; i < this.count; i++) {
      const [x, y] = this.at(i);
      let within = false;
      for (let a = 0, b = line.length - 1; a < line.length; b = a++) {
        const [xa, ya] = line[a], [xb, yb] = line[b];
        if (ya > y !== yb > y && x < ((xb - xa) * (y - ya)) / (yb - ya) + xa) within = !within;
      }
      if (within) rows.push(i);
    }
    return rows;
  }

  /** Look at some rows. @param {number[]} rows */
  fit(rows) {
    if (!rows.length) {
      this.camera = { x: 0.5, y: 0.5, zoom: 1 };
      return;
    }
    let [x0, y0, x1, y1] = [Infinity, Infinity, -Infinity, -Infinity];
    for (const row of rows) {
      const [x, y] = this.at(row);
      x0 = Math.min(x0, x), x1 = Math.max(x1, x), y0 = Math.min(y0, y), y1 = Math.max(y1, y);
    }
    this.camera = { x: (x0 + x1) / 2, y: (y0 + y1) / 2, zoom: Math.max(1, Math.min(60, 0.8 / Math.max(x1 - x0, y1 - y0, 0.005))) };
  }

  /** @param {HTMLCanvasElement} canvas */
  paint(canvas) {
    const [w, h] = [canvas.clientWidth, canvas.clientHeight];
    const ratio = Math.min(devicePixelRatio || 1, 2);
    if (canvas.width !== Math.round(w * ratio) || canvas.height !== Math.round(h * ratio)) {
      canvas.width = Math.round(w * ratio);
      canvas.height = Math.round(h * ratio);
    }
    const pen = /** @type {CanvasRenderingContext2D} */ (canvas.getContext('2d'));
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, w, h);
    if (!this.plain) return;
    const style = getComputedStyle(canvas);
    const [ink, iso] = [style.color, style.getPropertyValue('accent-color')];
    const rows = this.visible(w, h);
    const close = rows.length <= CLOSE;
    if (close) this.fetchSprites(rows);
    const radius = Math.max(1.6, Math.min(6, (Math.sqrt(this.camera.zoom) * 120) / Math.sqrt(this.count + 400)));
    const side = Math.min(64, Math.max(30, Math.sqrt((w * h) / Math.max(rows.length, 12)) * 0.5));
    for (const late of [false, true])
      for (const i of rows) {
        const chosen = this.chosen.has(i) || i === this.hover;
        if (chosen !== late) continue;
        const [x, y] = this.toScreen(...this.at(i), w, h);
        const code = this.codes ? this.codes[i] : -1;
        const sprite = close ? this.sprites.get(i) : undefined;
        pen.fillStyle = code >= 0 && code < HUES.length ? HUES[code] : GREY;
        if (sprite) {
          pen.globalAlpha = 1;
          pen.drawImage(sprite.image, sprite.x, sprite.y, SHEET, SHEET, x - side / 2, y - side / 2, side, side);
          pen.fillRect(x - side / 2, y + side / 2, side, 3);
          if (chosen) {
            pen.strokeStyle = iso;
            pen.lineWidth = 3;
            pen.strokeRect(x - side / 2, y - side / 2, side, side);
          }
          continue;
        }
        pen.globalAlpha = this.chosen.size && !chosen ? 0.35 : 0.82;
        pen.beginPath();
        pen.arc(x, y, chosen ? radius + 1.5 : radius, 0, 7);
        pen.fill();
        if (chosen) {
          pen.globalAlpha = 1;
          pen.strokeStyle = ink;
          pen.lineWidth = 1.5;
          pen.stroke();
        }
      }
    pen.globalAlpha = 1;
    if (this.outline.length > 1) {
      pen.beginPath();
      this.outline.forEach(([x, y], i) => pen[i ? 'lineTo' : 'moveTo'](...this.toScreen(x, y, w, h)));
      pen.closePath();
      pen.strokeStyle = iso;
      pen.lineWidth = 1.5;
      pen.stroke();
      pen.globalAlpha = 0.12;
      pen.fillStyle = iso;
      pen.fill();
      pen.globalAlpha = 1;
    }
  }

  /** @param {number[]} rows */
  fetchSprites(rows) {
    const missing = rows.filter((row) => !this.asked.has(row));
    if (!missing.length) return;
    if (this.sprites.size > MAX_SHEETS * 256) this.sprites.clear(), this.asked.clear();
    const some = missing.slice(0, 256);
    for (const row of some) this.asked.add(row);
    const image = new Image();
    image.onload = () => {
      some.forEach((row, i) => this.sprites.set(row, { image, x: (i % 16) * SHEET, y: Math.floor(i / 16) * SHEET }));
      this.onSprites();
    };
    image.src = `/api/sheet?rows=${some.join(',')}`;
  }
}
