/** Masks painted on the picture: how strongly the restoration acts where. Kept as the opacity of a canvas of moderate size. */

import * as api from './api.js';
import { chosenFile, set, state } from './state.js';

const MOST = 2048; // side of a mask in its pixels
const COLOUR = '#00c2a8';
const STEPS = 12; // that can be undone

/** One mask of one picture. */
class Mask {
  /** @param {import('./state.js').File} file */
  constructor(file) {
    this.scale = Math.min(1, MOST / Math.max(file.width, file.height));
    this.file = file;
    this.canvas = document.createElement('canvas');
    this.canvas.width = Math.max(1, Math.round(file.width * this.scale));
    this.canvas.height = Math.max(1, Math.round(file.height * this.scale));
    this.context = /** @type {CanvasRenderingContext2D} */ (this.canvas.getContext('2d', { willReadFrequently: false }));
    this.empty = true;
    /** @type {{image: HTMLCanvasElement, empty: boolean}[]} */
    this.past = [];
    /** @type {Promise<string>|null} its id on the server, once it was sent */
    this.sent = null;
  }

  copy() {
    const copy = document.createElement('canvas');
    copy.width = this.canvas.width;
    copy.height = this.canvas.height;
    copy.getContext('2d')?.drawImage(this.canvas, 0, 0);
    return copy;
  }

  begin() {
    this.past.push({ image: this.copy(), empty: this.empty });
    if (this.past.length > STEPS) this.past.shift();
  }

  undo() {
    const last = this.past.pop();
    if (!last) return;
    this.context.globalCompositeOperation = 'copy';
    this.context.drawImage(last.image, 0, 0);
    this.empty = last.empty;
    this.changed();
  }

  changed() {
    this.sent = null;
    set({ strokes: state.strokes + 1 });
  }

  /**
   * A soft dab: mixes what is there with `strength`, so that a weaker brush also takes away.
   * @param {{x: number, y: number}} place in pixels of the picture @param {number} radius likewise @param {number} strength 0 to 1
   */
  dab({ x, y }, radius, strength) {
    const c = this.context;
    const [cx, cy, r] = [x * this.scale, y * this.scale, Math.max(0.7, radius * this.scale)];
    const shade = (/** @type {number} */ opacity) => {
      const gradient = c.createRadialGradient(cx, cy, r * 0.55, cx, cy, r);
      gradient.addColorStop(0, `rgb(0 194 168 / ${opacity})`);
      gradient.addColorStop(1, 'rgb(0 194 168 / 0)');
      c.fillStyle = gradient;
      c.fillRect(cx - r, cy - r, 2 * r, 2 * r);
    };
    c.globalCompositeOperation = 'destination-out';
    shade(1);
    c.globalCompositeOperation = 'lighter';
    shade(strength);
    if (strength > 0) this.empty = false;
  }

  /** Everything at one strength. @param {number} strength */
  cover(strength) {
    this.begin();
    const c = this.context;
    c.globalCompositeOperation = 'copy';
    c.globalAlpha = strength;
    c.fillStyle = COLOUR;
    c.fillRect(0, 0, this.canvas.width, this.canvas.height);
    c.globalAlpha = 1;
    this.empty = strength === 0;
    this.changed();
  }

  invert() {
    this.begin();
    this.context.globalCompositeOperation = 'source-out';
    this.context.fillStyle = COLOUR;
    this.context.fillRect(0, 0, this.canvas.width, this.canvas.height);
    this.empty = false;
    this.changed();
  }

  /** The mask on the server, white for full strength; sent once for each state. @returns {Promise<string>} */
  id() {
    this.sent ??= this.png().then(api.createMask).then((shown) => shown.id);
    this.sent.catch(() => (this.sent = null));
    return this.sent;
  }

  /** @returns {Promise<Blob>} */
  png() {
    const image = document.createElement('canvas');
    image.width = this.canvas.width;
    image.height = this.canvas.height;
    const c = /** @type {CanvasRenderingContext2D} */ (image.getContext('2d'));
    c.fillStyle = '#fff';
    c.fillRect(0, 0, image.width, image.height);
    c.globalCompositeOperation = 'destination-in';
    c.drawImage(this.canvas, 0, 0);
    c.globalCompositeOperation = 'destination-over';
    c.fillStyle = '#000';
    c.fillRect(0, 0, image.width, image.height);
    return new Promise((resolve, reject) => image.toBlob((blob) => (blob ? resolve(blob) : reject(new Error('The mask could not be written.'))), 'image/png'));
  }
}

/** @type {Map<string, Mask>} */
const masks = new Map();

/** A mask that was painted, or null. @param {string} file @param {string} target 'mask', or the control it is for */
export const painted = (file, target) => {
  const mask = masks.get(`${file}/${target}`);
  return mask && !mask.empty ? mask : null;
};

/** The mask that the brush paints now; made when first needed. */
export function current() {
  const file = chosenFile();
  if (!file) return null;
  const key = `${file.id}/${state.painting}`;
  let mask = masks.get(key);
  if (!mask) masks.set(key, (mask = new Mask(file)));
  return mask;
}

/** The masks of a picture that is gone. @param {string} file */
export function forget(file) {
  for (const key of masks.keys()) if (key.startsWith(`${file}/`)) masks.delete(key);
}

/** How the brush is set: `size` in CSS pixels on the screen, `strength` 0 to 1. */
export const brush = { size: 60, strength: 1, erasing: false };

/** The tool that paints. @param {import('./viewer.js').Viewer} viewer @returns {import('./gestures.js').Tool & {dabAtCentre: () => void}} */
export function brushTool(viewer) {
  let last = /** @type {{x: number, y: number}|null} */ (null);
  const radius = () => brush.size / 2 / viewer.place.zoom;
  const strength = () => (brush.erasing ? 0 : brush.strength);
  const stop = () => {
    if (!last) return;
    last = null;
    current()?.changed();
  };
  return {
    down(place) {
      const mask = current();
      if (!mask) return;
      mask.begin();
      mask.dab(place, radius(), strength());
      last = place;
      viewer.redraw();
    },
    move(place) {
      const mask = current();
      if (!mask || !last) return;
      const r = radius();
      const length = Math.hypot(place.x - last.x, place.y - last.y);
      const steps = Math.floor(length / (r / 4));
      for (let n = 1; n <= steps; n++) {
        const part = (n * r) / 4 / length;
        mask.dab({ x: last.x + (place.x - last.x) * part, y: last.y + (place.y - last.y) * part }, r, strength());
      }
      if (steps) {
        const part = (steps * r) / 4 / length;
        last = { x: last.x + (place.x - last.x) * part, y: last.y + (place.y - last.y) * part };
      }
      viewer.redraw();
    },
    up: stop,
    cancel() {
      if (!last) return;
      last = null;
      current()?.undo();
    },
    dabAtCentre() {
      this.down({ x: viewer.place.x, y: viewer.place.y }, /** @type {any} */ (null));
      stop();
    },
  };
}
