/** What lies on the canvas: parts of pictures, outlines, veils. A layer draws itself where the picture lies. */

/** @typedef {import('./tiles.js').Box} Box */

/** What shows through transparent pixels. */
export function chequer(c, box, clip, style) {
  const side = 8 * (window.devicePixelRatio || 1);
  const left = Math.max(clip.x, box.x);
  const top = Math.max(clip.y, box.y);
  const right = Math.min(clip.x + clip.w, box.x + box.w);
  const bottom = Math.min(clip.y + clip.h, box.y + box.h);
  c.save();
  c.beginPath();
  c.rect(left, top, right - left, bottom - top);
  c.clip();
  const [light, dark] = [style.getPropertyValue('--chequer-light'), style.getPropertyValue('--chequer-dark')];
  for (let y = Math.floor(top / side); y * side < bottom; y++) {
    for (let x = Math.floor(left / side); x * side < right; x++) {
      c.fillStyle = (x + y) % 2 ? light : dark;
      c.fillRect(x * side, y * side, side, side);
    }
  }
  c.restore();
}

/** A restored part of the picture: lies on its place. */
export class CropLayer {
  /** @param {ImageBitmap} image @param {Box} crop in pixels of the input @param {{width: number, height: number, alpha?: boolean}} input */
  constructor(image, crop, input) {
    this.image = image;
    this.crop = crop;
    this.input = input;
  }

  /** @param {CanvasRenderingContext2D} c @param {Box} box @param {Box} clip */
  draw(c, box, clip) {
    const { x, y, w, h } = this.place(box);
    // the input that lies below must not show through where the restoration is transparent
    if (this.input.alpha) chequer(c, { x, y, w, h }, clip, getComputedStyle(c.canvas));
    c.drawImage(this.image, x, y, w, h);
  }

  /** @param {Box} box @returns {Box} */
  place(box) {
    const zoom = box.w / this.input.width;
    const x = Math.round(box.x + this.crop.x * zoom);
    const y = Math.round(box.y + this.crop.y * zoom);
    return {
      x,
      y,
      w: Math.round(box.x + (this.crop.x + this.crop.w) * zoom) - x,
      h: Math.round(box.y + (this.crop.y + this.crop.h) * zoom) - y,
    };
  }
}

/** The outline of a preview, where it is smaller than what is visible. */
export class FrameLayer extends CropLayer {
  constructor(crop, input) {
    super(/** @type {any} */ (null), crop, input);
  }

  draw(c, box, clip) {
    const { x, y, w, h } = this.place(box);
    if (x <= clip.x && y <= clip.y && x + w >= clip.x + clip.w && y + h >= clip.y + clip.h) return;
    const line = Math.max(1, Math.round(window.devicePixelRatio || 1));
    c.lineWidth = line;
    c.strokeStyle = 'rgb(0 0 0 / 60%)';
    c.strokeRect(x - line / 2, y - line / 2, w + line, h + line);
    c.strokeStyle = 'rgb(255 255 255 / 90%)';
    c.setLineDash([6 * line, 6 * line]);
    c.strokeRect(x - line / 2, y - line / 2, w + line, h + line);
    c.setLineDash([]);
  }
}

/** A picture over a part of the picture, half transparent: a mask, a map. */
export class VeilLayer extends CropLayer {
  /** @param {any} image @param {Box} crop @param {{width: number, height: number}} input @param {number} opacity */
  constructor(image, crop, input, opacity) {
    super(image, crop, input);
    this.opacity = opacity;
  }

  draw(c, box) {
    const { x, y, w, h } = this.place(box);
    c.save();
    c.globalAlpha = this.opacity;
    c.imageSmoothingEnabled = true;
    c.drawImage(this.image, x, y, w, h);
    c.restore();
  }
}

/** An arrow from where a motion began to where it ended. */
export class ArrowLayer {
  /** @param {{x: number, y: number}} from @param {{x: number, y: number}} to @param {number} width of the input */
  constructor(from, to, width) {
    this.from = from;
    this.to = to;
    this.width = width;
  }

  /** @param {CanvasRenderingContext2D} c @param {Box} box */
  draw(c, box) {
    const { from, to, width } = this;
    const zoom = box.w / width;
    const [x0, y0, x1, y1] = [box.x + from.x * zoom, box.y + from.y * zoom, box.x + to.x * zoom, box.y + to.y * zoom];
    const dpr = window.devicePixelRatio || 1;
    const angle = Math.atan2(y1 - y0, x1 - x0);
    const head = 10 * dpr;
    c.lineCap = 'round';
    for (const [colour, line] of [['rgb(0 0 0 / 70%)', 5], ['#fff', 2]]) {
      c.strokeStyle = /** @type {string} */ (colour);
      c.lineWidth = /** @type {number} */ (line) * dpr;
      c.beginPath();
      c.moveTo(x0, y0);
      c.lineTo(x1, y1);
      for (const turn of [2.6, -2.6]) {
        c.moveTo(x1, y1);
        c.lineTo(x1 + head * Math.cos(angle + turn), y1 + head * Math.sin(angle + turn));
      }
      c.stroke();
    }
  }
}
