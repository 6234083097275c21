/**
 * The canvas: one or several panes that look at the same place of the same picture. Places are in pixels of the input
 * whatever is shown, so that a result four times as large lies on its input exactly.
 */

import { chequer } from './layers.js';
import { tiles } from './tiles.js';

/**
 * @typedef {import('./tiles.js').Box} Box
 * @typedef {{draw: (context: CanvasRenderingContext2D, box: Box, clip: Box) => void}} Layer
 * @typedef {{label: string, layers: Layer[]}} Pane
 * @typedef {{width: number, height: number, reference: number, alpha: boolean, panes: Pane[], split: [Pane, Pane]|null,
 *     overlays: Layer[]}} Scene `width` and `height` of the input; `reference`: pixels of the largest layer for one of the
 *     input, what 100 % means; `split`: two panes in one place with a divider
 */

const MOST = 32; // screen pixels for one of the reference
const STEP = 1.25;

export class Viewer {
  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.canvas = canvas;
    this.context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext('2d', { alpha: false }));
    /** @type {Scene|null} */
    this.scene = null;
    /** the place in the middle of a pane, in pixels of the input, and CSS pixels for one of them */
    this.place = { x: 0, y: 0, zoom: 1 };
    this.fitted = true;
    this.divider = 0.5;
    this.width = 0;
    this.height = 0;
    /** @type {Set<() => void>} hear of every change of what is visible */
    this.moved = new Set();
    this.drawn = () => {};
    this.asked = false;
    /** what was visible when the listeners last heard */
    this.seen = '';
    tiles.arrived = () => this.redraw();
    new ResizeObserver(() => this.resize()).observe(canvas);
  }

  get dpr() {
    return window.devicePixelRatio || 1;
  }

  /** @param {Scene|null} scene @param {boolean} [anew] another picture: fit it */
  show(scene, anew = false) {
    this.scene = scene;
    if (anew) this.fitted = true;
    this.settle();
    this.redraw();
  }

  resize() {
    const { clientWidth, clientHeight } = this.canvas;
    if (!clientWidth || !clientHeight) return;
    this.width = clientWidth;
    this.height = clientHeight;
    this.canvas.width = Math.round(clientWidth * this.dpr);
    this.canvas.height = Math.round(clientHeight * this.dpr);
    this.settle();
    this.paint(); // at once: a canvas that was resized is empty
  }

  /** Columns and rows of panes: the arrangement in which the picture is largest. */
  grid() {
    const count = this.scene?.split ? 1 : Math.max(1, this.scene?.panes.length ?? 1);
    let best = { columns: 1, rows: count, size: 0 };
    for (let columns = 1; columns <= count; columns++) {
      const rows = Math.ceil(count / columns);
      const size = this.scene ? Math.min(this.width / columns / this.scene.width, this.height / rows / this.scene.height) : 1;
      if (size > best.size) best = { columns, rows, size };
    }
    return best;
  }

  /** The panes' rectangles in CSS pixels. @returns {Box[]} */
  boxes() {
    const { columns, rows } = this.grid();
    const [w, h] = [this.width / columns, this.height / rows];
    const count = this.scene?.split ? 1 : (this.scene?.panes.length ?? 0);
    return Array.from({ length: count }, (_, n) => ({ x: (n % columns) * w, y: Math.floor(n / columns) * h, w, h }));
  }

  pane() {
    const { columns, rows } = this.grid();
    return { w: this.width / columns, h: this.height / rows };
  }

  // zoom and pan

  /** After a change of the window or of what is shown: the place is kept, a fitted picture stays fitted. */
  settle() {
    if (this.fitted) this.fit();
    else this.move(this.place);
  }

  fitZoom() {
    if (!this.scene) return 1;
    const { w, h } = this.pane();
    const margin = this.width > 700 ? 24 : 8;
    const whole = Math.min(Math.max(1, w - margin) / this.scene.width, Math.max(1, h - margin) / this.scene.height);
    // a small picture is not blown up beyond a few screen pixels for one
    return Math.min(whole, (8 * this.scene.reference) / this.dpr);
  }

  fit() {
    if (!this.scene) return;
    this.move({ x: this.scene.width / 2, y: this.scene.height / 2, zoom: this.fitZoom() });
    this.fitted = true;
  }

  /** One pixel of the result on one of the screen. */
  actual() {
    if (this.scene) this.zoomTo(this.scene.reference / this.dpr);
  }

  /** 1 for 100 %. */
  get percent() {
    return this.scene ? (this.place.zoom * this.dpr) / this.scene.reference : 1;
  }

  /** @param {{x: number, y: number, zoom: number}} place */
  move({ x, y, zoom }) {
    if (!this.scene) return;
    const least = Math.min(this.fitZoom(), this.scene.reference / this.dpr) / 2;
    zoom = Math.min((MOST * this.scene.reference) / this.dpr, Math.max(least, zoom));
    const { width, height } = this.scene;
    const pane = this.pane();
    const place = { x: held(x, width, pane.w / zoom), y: held(y, height, pane.h / zoom), zoom };
    const key = JSON.stringify([place, pane, width, height]);
    this.place = place;
    this.fitted = false;
    this.redraw();
    if (key === this.seen) return;
    this.seen = key;
    for (const listener of this.moved) listener();
  }

  /** By CSS pixels. @param {number} dx @param {number} dy */
  pan(dx, dy) {
    const { x, y, zoom } = this.place;
    this.move({ x: x - dx / zoom, y: y - dy / zoom, zoom });
  }

  /** Zooms about a point of the canvas, or the middle. @param {number} zoom @param {{x: number, y: number}} [about] in CSS pixels */
  zoomTo(zoom, about) {
    if (!this.scene) return;
    const [least, most] = [Math.min(this.fitZoom(), this.scene.reference / this.dpr) / 2, (MOST * this.scene.reference) / this.dpr];
    zoom = Math.min(most, Math.max(least, zoom));
    if (!about) return this.move({ ...this.place, zoom });
    const fixed = this.toPicture(about);
    const offset = this.offset(about);
    this.move({ x: fixed.x - offset.x / zoom, y: fixed.y - offset.y / zoom, zoom });
  }

  /** @param {number} steps positive enlarges */
  zoomBy(steps, about) {
    this.zoomTo(this.place.zoom * STEP ** steps, about);
  }

  /** From the middle of the pane under a point. */
  offset({ x, y }) {
    const { w, h } = this.pane();
    return { x: (((x % w) + w) % w) - w / 2, y: (((y % h) + h) % h) - h / 2 };
  }

  /** A point of the canvas as a place of the picture. @param {{x: number, y: number}} point in CSS pixels */
  toPicture(point) {
    const offset = this.offset(point);
    return { x: this.place.x + offset.x / this.place.zoom, y: this.place.y + offset.y / this.place.zoom };
  }

  /** A place of the picture as a point of the canvas, in the first pane. */
  toCanvas({ x, y }) {
    const { w, h } = this.pane();
    return { x: w / 2 + (x - this.place.x) * this.place.zoom, y: h / 2 + (y - this.place.y) * this.place.zoom };
  }

  /** The visible part of the picture, in its pixels, whole. @returns {Box|null} */
  visible() {
    if (!this.scene || !this.width) return null;
    const { w, h } = this.pane();
    const [half, tall] = [w / 2 / this.place.zoom, h / 2 / this.place.zoom];
    const x = Math.max(0, Math.floor(this.place.x - half));
    const y = Math.max(0, Math.floor(this.place.y - tall));
    const right = Math.min(this.scene.width, Math.ceil(this.place.x + half));
    const bottom = Math.min(this.scene.height, Math.ceil(this.place.y + tall));
    return right > x && bottom > y ? { x, y, w: right - x, h: bottom - y } : null;
  }

  // drawing

  redraw() {
    if (this.asked) return;
    this.asked = true;
    requestAnimationFrame(() => {
      this.asked = false;
      this.paint();
    });
  }

  paint() {
    const { context: c, canvas, scene, dpr } = this;
    const style = getComputedStyle(canvas);
    c.fillStyle = style.getPropertyValue('--stage').trim() || '#222';
    c.fillRect(0, 0, canvas.width, canvas.height);
    if (scene) {
      c.imageSmoothingEnabled = this.percent < 1.01;
      c.imageSmoothingQuality = 'high';
      this.boxes().forEach((cell, n) => {
        const clip = scaled(cell, dpr);
        const box = {
          x: clip.x + clip.w / 2 - this.place.x * this.place.zoom * dpr,
          y: clip.y + clip.h / 2 - this.place.y * this.place.zoom * dpr,
          w: scene.width * this.place.zoom * dpr,
          h: scene.height * this.place.zoom * dpr,
        };
        if (scene.split) {
          const at = Math.round(clip.w * this.divider);
          this.paintPane(scene.split[0], box, { ...clip, w: at }, style);
          this.paintPane(scene.split[1], box, { ...clip, x: clip.x + at, w: clip.w - at }, style);
        } else this.paintPane(scene.panes[n], box, { ...clip, w: clip.w - (this.grid().columns > 1 ? 2 : 0) }, style);
      });
      tiles.settle();
    }
    this.drawn();
  }

  /** @param {Pane} pane @param {Box} box @param {Box} clip @param {CSSStyleDeclaration} style */
  paintPane(pane, box, clip, style) {
    const { context: c, scene } = this;
    if (clip.w <= 0) return;
    c.save();
    c.beginPath();
    c.rect(clip.x, clip.y, clip.w, clip.h);
    c.clip();
    if (scene?.alpha) chequer(c, box, clip, style);
    for (const layer of pane.layers) layer.draw(c, box, clip);
    for (const layer of scene?.overlays ?? []) layer.draw(c, box, clip);
    c.restore();
  }
}

/** A coordinate that keeps the picture in view: centred where it fits, else no further out than its edge in the middle. */
function held(value, length, seen) {
  const slack = Math.max(0, length - seen) / 2 + Math.min(length, seen) / 4;
  return Math.min(length / 2 + slack, Math.max(length / 2 - slack, value));
}

const scaled = (box, by) => ({
  x: Math.round(box.x * by),
  y: Math.round(box.y * by),
  w: Math.round((box.x + box.w) * by) - Math.round(box.x * by),
  h: Math.round((box.y + box.h) * by) - Math.round(box.y * by),
});

