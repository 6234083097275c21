/** Pictures of any size by the tiles that are visible, each at the resolution that the screen can show. */

import * as api from './api.js';

const SIDE = 512; // of a tile, in pixels of its level
const KEPT = 160; // decoded tiles, at most 1 MB each
const AT_ONCE = 6;

/**
 * @typedef {{x: number, y: number, w: number, h: number}} Box
 * @typedef {{source: TileSource, level: number, column: number, row: number, key: string, distance: number}} Wish
 */

/** Fetches tiles, the ones nearest to the middle first, and forgets those that were not seen for longest. */
class Tiles {
  constructor() {
    /** @type {Map<string, ImageBitmap>} */
    this.kept = new Map();
    /** @type {Map<string, AbortController>} */
    this.underWay = new Map();
    /** @type {Map<string, Wish>} */
    this.wishes = new Map();
    /** @type {Map<string, string>} what went wrong, by tile */
    this.failed = new Map();
    this.arrived = () => {};
  }

  /** @param {string} key */
  get(key) {
    const tile = this.kept.get(key);
    if (tile) {
      this.kept.delete(key);
      this.kept.set(key, tile);
    }
    return tile;
  }

  /** @param {Wish} wish */
  want(wish) {
    if (!this.failed.has(wish.key)) this.wishes.set(wish.key, wish);
  }

  /** After a frame: what is no longer visible is given up, the rest begins. */
  settle() {
    for (const [key, controller] of this.underWay) if (!this.wishes.has(key)) controller.abort();
    const waiting = [...this.wishes.values()].filter((wish) => !this.underWay.has(wish.key));
    waiting.sort((a, b) => b.level - a.level || a.distance - b.distance);
    for (const wish of waiting.slice(0, Math.max(0, AT_ONCE - this.underWay.size))) this.fetch(wish);
    this.wishes.clear();
  }

  /** @param {Wish} wish */
  async fetch(wish) {
    const controller = new AbortController();
    this.underWay.set(wish.key, controller);
    const { x, y, w, h } = wish.source.region(wish.level, wish.column, wish.row);
    try {
      const max = Math.max(1, Math.ceil(Math.max(w, h) / 2 ** wish.level));
      const tile = await api.image(wish.source.path({ x, y, w, h, max }), controller.signal);
      this.kept.set(wish.key, tile);
      for (const [key, old] of this.kept) {
        if (this.kept.size <= KEPT) break;
        this.kept.delete(key);
        old.close();
      }
    } catch (error) {
      if (!controller.signal.aborted) this.failed.set(wish.key, /** @type {Error} */ (error).message);
    } finally {
      this.underWay.delete(wish.key);
      this.arrived();
    }
  }

  /** Whether anything that is visible is still to come. */
  get busy() {
    return this.underWay.size > 0;
  }

  /** Why tiles of a source are missing. @param {TileSource} source */
  error(source) {
    for (const [key, sentence] of this.failed) if (key.startsWith(`${source.key}/`)) return sentence;
    return '';
  }

  /** Tries again what failed. */
  forgive() {
    this.failed.clear();
  }
}

export const tiles = new Tiles();

/** A picture on the server. */
export class TileSource {
  /**
   * @param {string} key @param {number} width @param {number} height
   * @param {(region: {x: number, y: number, w: number, h: number, max: number}) => string} path
   */
  constructor(key, width, height, path) {
    this.key = key;
    this.width = width;
    this.height = height;
    this.path = path;
    this.levels = Math.max(0, Math.ceil(Math.log2(Math.max(width, height) / SIDE)));
  }

  /** The part of the picture that a tile covers, in its pixels. @param {number} level @param {number} column @param {number} row @returns {Box} */
  region(level, column, row) {
    const step = SIDE * 2 ** level;
    const x = column * step;
    const y = row * step;
    return { x, y, w: Math.min(step, this.width - x), h: Math.min(step, this.height - y) };
  }

  /**
   * Draws what is visible, from coarser tiles where the right ones are still to come.
   * @param {CanvasRenderingContext2D} context @param {Box} box where the whole picture lies on the canvas, in its pixels
   * @param {Box} clip the part of the canvas that is visible
   */
  draw(context, box, clip) {
    const zoom = box.w / this.width;
    const level = Math.min(this.levels, Math.max(0, Math.floor(Math.log2(1 / zoom) + 0.01)));
    if (level < this.levels) this.ask(this.levels, 0, 0, 0); // the whole, coarse: there is something to show at once
    const step = SIDE * 2 ** level * zoom;
    const first = Math.max(0, Math.floor((clip.x - box.x) / step));
    const top = Math.max(0, Math.floor((clip.y - box.y) / step));
    const last = Math.min(Math.ceil(box.w / step), Math.ceil((clip.x + clip.w - box.x) / step));
    const bottom = Math.min(Math.ceil(box.h / step), Math.ceil((clip.y + clip.h - box.y) / step));
    for (let row = top; row < bottom; row++) {
      for (let column = first; column < last; column++) {
        const middle = [box.x + (column + 0.5) * step - clip.x - clip.w / 2, box.y + (row + 0.5) * step - clip.y - clip.h / 2];
        const tile = this.ask(level, column, row, Math.hypot(...middle));
        const region = this.region(level, column, row);
        if (region.w <= 0 || region.h <= 0) continue;
        if (tile) paint(context, tile, { x: 0, y: 0, w: tile.width, h: tile.height }, region, box, zoom);
        else this.substitute(context, level, column, row, region, box, zoom);
      }
    }
  }

  /** @param {number} level @param {number} column @param {number} row @param {number} distance */
  ask(level, column, row, distance) {
    const key = `${this.key}/${level}/${column}/${row}`;
    const tile = tiles.get(key);
    if (!tile) tiles.want({ source: this, level, column, row, key, distance });
    return tile;
  }

  /** Part of a coarser tile in the place of one that is not there yet. */
  substitute(context, level, column, row, region, box, zoom) {
    for (let coarser = level + 1; coarser <= this.levels; coarser++) {
      const by = 2 ** (coarser - level);
      const [c, r] = [Math.floor(column / by), Math.floor(row / by)];
      const tile = tiles.get(`${this.key}/${coarser}/${c}/${r}`);
      if (!tile) continue;
      const whole = this.region(coarser, c, r);
      const [sx, sy] = [tile.width / whole.w, tile.height / whole.h];
      const part = { x: (region.x - whole.x) * sx, y: (region.y - whole.y) * sy, w: region.w * sx, h: region.h * sy };
      paint(context, tile, part, region, box, zoom);
      return;
    }
  }
}

/** Draws between whole pixels of the canvas, so that no seam shows between neighbours. */
function paint(context, tile, part, region, box, zoom) {
  const left = Math.round(box.x + region.x * zoom);
  const top = Math.round(box.y + region.y * zoom);
  const right = Math.round(box.x + (region.x + region.w) * zoom);
  const bottom = Math.round(box.y + (region.y + region.h) * zoom);
  context.drawImage(tile, part.x, part.y, part.w, part.h, left, top, right - left, bottom - top);
}
