/** Mouse, pen, fingers and keys on the canvas. */

import { set, state } from './state.js';

const PAN = 80; // CSS pixels for an arrow key

/**
 * @typedef {{down: (place: {x: number, y: number}, event: PointerEvent) => void, move: (place: {x: number, y: number}, event: PointerEvent) => void,
 *     up: (place: {x: number, y: number}, event: PointerEvent) => void, cancel: () => void}} Tool
 */

/**
 * @param {import('./viewer.js').Viewer} viewer
 * @param {Record<string, Tool>} tools by the name of `state.tool`; without one a drag pans
 */
export function attachGestures(viewer, tools) {
  const { canvas } = viewer;
  /** @type {Map<number, {x: number, y: number}>} */
  const pointers = new Map();
  let tool = /** @type {Tool|null} */ (null);
  let pinch = /** @type {{distance: number, x: number, y: number}|null} */ (null);

  const point = (event) => {
    const box = canvas.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };
  const span = () => {
    const [a, b] = [...pointers.values()];
    return { distance: Math.hypot(a.x - b.x, a.y - b.y), x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 };
  };

  canvas.addEventListener('pointerdown', (event) => {
    if (event.button > 1) return;
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, point(event));
    if (pointers.size === 2) {
      tool?.cancel(); // a second finger: it was meant as a pinch
      tool = null;
      pinch = span();
    } else if (pointers.size === 1 && event.button === 0 && !event.shiftKey) {
      tool = tools[state.tool] ?? null;
      tool?.down(viewer.toPicture(point(event)), event);
    }
  });
  canvas.addEventListener('pointermove', (event) => {
    const before = pointers.get(event.pointerId);
    const now = point(event);
    if (!before) return;
    pointers.set(event.pointerId, now);
    if (pinch && pointers.size === 2) {
      const next = span();
      viewer.pan(next.x - pinch.x, next.y - pinch.y);
      viewer.zoomTo((viewer.place.zoom * next.distance) / Math.max(1, pinch.distance), next);
      pinch = next;
    } else if (tool) {
      const steps = event.getCoalescedEvents?.() ?? [];
      for (const step of steps.length ? steps : [event]) tool.move(viewer.toPicture(point(step)), event);
    } else viewer.pan(now.x - before.x, now.y - before.y);
  });
  const end = (event) => {
    if (!pointers.delete(event.pointerId)) return;
    if (pointers.size < 2) pinch = null;
    if (event.type === 'pointercancel') tool?.cancel();
    else tool?.up(viewer.toPicture(point(event)), event);
    tool = null;
  };
  canvas.addEventListener('pointerup', end);
  canvas.addEventListener('pointercancel', end);
  canvas.addEventListener(
    'wheel',
    (event) => {
      event.preventDefault();
      const lines = event.deltaMode === 1 ? event.deltaY * 24 : event.deltaY;
      viewer.zoomBy(-Math.max(-3, Math.min(3, lines / 100)), point(event));
    },
    { passive: false },
  );
  canvas.addEventListener('dblclick', (event) => {
    if (state.tool !== 'pan') return;
    if (viewer.fitted) viewer.zoomTo((viewer.scene?.reference ?? 1) / viewer.dpr, point(event));
    else viewer.fit();
  });
}

/** The divider between before and after: dragged, or moved by the arrow keys. @param {import('./viewer.js').Viewer} viewer @param {HTMLElement} handle */
export function attachDivider(viewer, handle) {
  const to = (part) => {
    viewer.divider = Math.min(1, Math.max(0, part));
    place();
    viewer.redraw();
  };
  const place = () => {
    handle.style.left = `${viewer.divider * 100}%`;
    handle.setAttribute('aria-valuenow', String(Math.round(viewer.divider * 100)));
  };
  handle.addEventListener('pointerdown', (event) => {
    handle.setPointerCapture(event.pointerId);
    event.preventDefault();
    handle.focus({ preventScroll: true });
  });
  handle.addEventListener('pointermove', (event) => {
    if (!handle.hasPointerCapture(event.pointerId)) return;
    const box = viewer.canvas.getBoundingClientRect();
    to((event.clientX - box.left) / box.width);
  });
  handle.addEventListener('keydown', (event) => {
    const steps = { ArrowLeft: -0.02, ArrowRight: 0.02, ArrowDown: -0.02, ArrowUp: 0.02, PageDown: -0.1, PageUp: 0.1 };
    if (event.key in steps) to(viewer.divider + steps[event.key]);
    else if (event.key === 'Home') to(0);
    else if (event.key === 'End') to(1);
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  handle.addEventListener('dblclick', () => to(0.5));
  place();
}

/** What a key does anywhere on the page, unless something that takes keys has the focus. */
export function attachKeys(viewer, { help, brush, dab, undo }) {
  document.addEventListener('keydown', (event) => {
    const target = /** @type {HTMLElement} */ (event.target);
    if (event.ctrlKey || event.metaKey || event.altKey) {
      if ((event.ctrlKey || event.metaKey) && event.key === 'z' && state.tool === 'brush' && !target.closest('input, textarea')) {
        event.preventDefault();
        undo();
      }
      return;
    }
    if (document.querySelector('dialog[open]') || target.closest('input:not([type=range], [type=checkbox], [type=radio]), textarea, select')) return;
    const onWidget = target !== document.body && target !== viewer.canvas;
    const arrows = { ArrowLeft: [PAN, 0], ArrowRight: [-PAN, 0], ArrowUp: [0, PAN], ArrowDown: [0, -PAN] };
    if (event.key in arrows && !onWidget) viewer.pan(...arrows[event.key]);
    else if (event.key === ' ' && !onWidget) set({ flipped: !state.flipped });
    else if (event.key === 'Enter' && target === viewer.canvas && state.tool === 'brush') dab();
    else if (event.key === '+' || event.key === '=') viewer.zoomBy(1);
    else if (event.key === '-') viewer.zoomBy(-1);
    else if (event.key === '0') viewer.fit();
    else if (event.key === '1') viewer.actual();
    else if (event.key === '?') help();
    else if (event.key === 's') set({ mode: 'split' });
    else if (event.key === 'c') set({ mode: 'side' });
    else if (event.key === 'd') set({ mode: 'difference' });
    else if (event.key === 'r') set({ mode: 'result' });
    else if (event.key === 'b') brush();
    else if (event.key === 'Escape' && state.tool !== 'pan') set({ tool: 'pan' });
    else return;
    event.preventDefault();
  });
}
