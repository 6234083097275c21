/** What stands around the canvas: how it is looked at, what it shows, the brush, and what to do when there is nothing. */

import { byId, fill, h, setText } from './dom.js';
import { duration, number } from './format.js';
import { brush, current, painted } from './mask.js';
import { labels } from './scene.js';
import { chosenFile, chosenModel, follow, modelNamed, set, shownJob, state } from './state.js';
import { tiles } from './tiles.js';

/** @typedef {import('./viewer.js').Viewer} Viewer */

/** @param {Viewer} viewer */
export function attachStage(viewer) {
  attachModes();
  attachZoom(viewer);
  attachBrush(viewer);
  attachStatus(viewer);
}

function attachModes() {
  for (const input of byId('modes').querySelectorAll('input')) {
    input.addEventListener('change', () => set({ mode: input.value, flipped: false }));
  }
  byId('flip').addEventListener('click', () => set({ flipped: !state.flipped }));
  follow(['mode', 'flipped', 'file'], () => {
    for (const input of byId('modes').querySelectorAll('input')) input.checked = input.value === state.mode;
    byId('flip').setAttribute('aria-pressed', String(state.flipped));
    byId('divider').hidden = state.mode !== 'split' || state.flipped || !chosenFile();
    for (const part of ['toolbar', 'stage-foot']) byId(part).hidden = !chosenFile();
    byId('empty').hidden = Boolean(chosenFile());
  });
}

/** @param {Viewer} viewer */
function attachZoom(viewer) {
  byId('zoom-in').addEventListener('click', () => viewer.zoomBy(1));
  byId('zoom-out').addEventListener('click', () => viewer.zoomBy(-1));
  byId('zoom-fit').addEventListener('click', () => viewer.fit());
  byId('zoom-actual').addEventListener('click', () => viewer.actual());
}

/** Labels of the panes, zoom, and what is wrong with what is shown. @param {Viewer} viewer */
function attachStatus(viewer) {
  const place = byId('labels');
  let last = '';
  viewer.drawn = () => {
    const percent = viewer.percent * 100;
    setText(byId('zoom'), `${percent < 10 ? number(percent, 1) : Math.round(percent)} %`);
    const boxes = viewer.boxes();
    const names = labels(viewer);
    const key = JSON.stringify([boxes, names, viewer.scene?.split && viewer.divider]);
    const failed = viewer.scene ? [...tiles.failed.values()][0] : undefined;
    const problem = byId('stage-problem');
    problem.hidden = !failed;
    setText(byId('stage-problem-text'), failed ?? '');
    if (key === last) return;
    last = key;
    fill(
      place,
      names.map((name, n) => {
        const label = h('span', { class: viewer.scene?.split && n === 1 ? 'pane-label right' : 'pane-label' }, name);
        const box = viewer.scene?.split ? boxes[0] : boxes[n];
        if (box) {
          label.style.top = `${box.y + 8}px`;
          if (viewer.scene?.split && n === 1) label.style.right = '8px';
          else label.style.left = `${box.x + 8}px`;
          label.style.maxWidth = `${Math.max(60, (viewer.scene?.split ? box.w / 2 : box.w) - 24)}px`;
        }
        return label;
      }),
    );
  };
  byId('stage-retry').addEventListener('click', () => {
    tiles.forgive();
    viewer.redraw();
  });
  follow(['file', 'files', 'shown', 'mode', 'flipped', 'jobs', 'model', 'models'], () => {
    const file = chosenFile();
    const shown = state.flipped ? 'the input' : { split: 'input and result with a divider', side: 'pictures side by side', difference: 'the difference of result and input', result: 'the result' }[state.mode];
    viewer.canvas.setAttribute('aria-label', file ? `${file.name}: ${shown}. Arrow keys move, plus and minus zoom, Space shows the input.` : 'No picture is open.');
  });
  follow(['preview', 'previewState', 'shown', 'jobs', 'file', 'live', 'model', 'models'], () => {
    const { preview, previewState } = state;
    const job = shownJob();
    const notes = job ? [] : (preview?.notes ?? []);
    const area = preview ? `${preview.crop.w} × ${preview.crop.h}` : '';
    const text = job
      ? `Result of ${modelNamed(job.model)?.title ?? job.model}, ${job.result?.width} × ${job.result?.height}${job.report?.seconds ? `, made in ${duration(job.report.seconds)}` : ''}`
      : previewState.busy
        ? 'Preview: working…'
        : preview
          ? `Preview of ${area} pixels in ${duration(preview.seconds)}`
          : chosenModel() && !previewState.error
            ? state.live
              ? ''
              : 'The live preview is off.'
            : '';
    setText(byId('preview-status'), text);
    byId('preview-status').title = notes.join(' ');
    const problem = byId('preview-problem');
    problem.hidden = !previewState.error || Boolean(job);
    setText(problem, previewState.error);
    setText(byId('preview-notes'), notes.join(' '));
  });
}

/** @param {Viewer} viewer */
function attachBrush(viewer) {
  const bar = byId('brush-bar');
  const ring = byId('brush-ring');
  const toggle = byId('brush');
  toggle.addEventListener('click', () => toggleBrush());
  byId('paint-mask').addEventListener('click', () => set({ tool: 'brush', painting: 'mask', panel: matchMedia('(max-width: 800px)').matches ? '' : state.panel }));
  byId('clear-mask').addEventListener('click', () => {
    const painting = state.painting;
    set({ painting: 'mask' });
    current()?.cover(0);
    set({ painting });
  });
  const [size, strength] = [byId('brush-size'), byId('brush-strength')];
  size.addEventListener('input', () => {
    brush.size = Number(size.value);
    drawRing();
  });
  strength.addEventListener('input', () => {
    brush.strength = Number(strength.value) / 100;
    setText(byId('brush-strength-value'), `${strength.value} %`);
  });
  const eraser = byId('brush-erase');
  eraser.addEventListener('click', () => {
    brush.erasing = !brush.erasing;
    eraser.setAttribute('aria-pressed', String(brush.erasing));
  });
  byId('brush-undo').addEventListener('click', () => current()?.undo());
  byId('brush-fill').addEventListener('click', () => current()?.cover(brush.strength));
  byId('brush-invert').addEventListener('click', () => current()?.invert());
  byId('brush-clear').addEventListener('click', () => current()?.cover(0));
  byId('brush-done').addEventListener('click', () => {
    set({ tool: 'pan' });
    viewer.canvas.focus({ preventScroll: true });
  });
  const drawRing = () => {
    ring.style.width = ring.style.height = `${brush.size}px`;
  };
  const over = (/** @type {PointerEvent} */ event) => {
    const box = viewer.canvas.getBoundingClientRect();
    ring.style.transform = `translate(${event.clientX - box.left - brush.size / 2}px, ${event.clientY - box.top - brush.size / 2}px)`;
  };
  viewer.canvas.addEventListener('pointermove', over);
  viewer.canvas.addEventListener('pointerenter', (event) => {
    ring.classList.add('over');
    over(event);
  });
  viewer.canvas.addEventListener('pointerleave', () => ring.classList.remove('over'));
  viewer.canvas.addEventListener('focus', () => centreRing());
  const centreRing = () => {
    if (!viewer.canvas.matches(':focus-visible')) return;
    ring.classList.add('over');
    ring.style.transform = `translate(${viewer.width / 2 - brush.size / 2}px, ${viewer.height / 2 - brush.size / 2}px)`;
  };
  viewer.canvas.addEventListener('keydown', centreRing);
  drawRing();
  follow(['tool', 'painting', 'strokes', 'file'], () => {
    const on = state.tool === 'brush' && Boolean(chosenFile());
    bar.hidden = !on;
    ring.hidden = !on;
    toggle.setAttribute('aria-pressed', String(on && state.painting === 'mask'));
    byId('stage').dataset.tool = state.tool;
    setText(byId('brush-target'), state.painting === 'mask' ? 'Restored where it is painted' : `Map of “${state.painting.replaceAll('_', ' ')}”`);
    const mask = on ? current() : null;
    byId('brush-undo').disabled = !mask?.past.length;
    byId('mask-status').textContent = maskStatus();
  });
  follow(['tool'], () => {
    byId('motion-hint').hidden = state.tool !== 'motion';
  });
  byId('motion-cancel').addEventListener('click', () => set({ tool: 'pan' }));
}

/** What the mask does now, in words. */
function maskStatus() {
  const file = chosenFile();
  if (!file) return '';
  const target = state.painting === 'mask' && state.tool === 'brush' ? current() : null;
  return target && target.empty ? 'Paint on the picture.' : painted(file.id, 'mask') ? 'Only the painted region is restored.' : 'The whole picture is restored.';
}

/** The brush of the mask, on or off. */
export function toggleBrush() {
  if (!chosenFile()) return;
  set(state.tool === 'brush' ? { tool: 'pan' } : { tool: 'brush', painting: 'mask' });
}
