/** The fields of a model's controls, made from its schema. */

import { button, fill, h, uid } from './dom.js';
import { label, number, value as shown } from './format.js';
import { kernelField } from './kernel.js';
import { chosenFile, PAINTED, set, setValue, valueOf } from './state.js';
import { painted } from './mask.js';

/** @typedef {import('./state.js').Control} Control @typedef {import('./state.js').Model} Model */

const STEPS = 200; // of a slider

/** A step that makes round numbers of a range. @param {Control} control */
function stepOf({ type, step, min, max }) {
  if (step) return step;
  if (type === 'integer') return 1;
  const range = (max ?? 1) - (min ?? 0);
  return 10 ** Math.floor(Math.log10(range / (STEPS / 4)));
}

/** @param {Model} model @param {Control} control */
const titleOf = (control) => label(control.name.replace(/^options\./, ''));

/**
 * The field of one control. `element.refresh()` shows the value anew when something else set it.
 * @param {Model} model @param {Control} control
 * @returns {any}
 */
export function field(model, control) {
  const make = { number: numberField, integer: numberField, boolean: switchField, choice: choiceField, kernel: kernelField, regions: regionsField }[control.type];
  return make(model, control);
}

/** @param {string} text */
const hint = (text) => (text ? h('p', { class: 'hint', id: uid('hint') }, text) : null);

/** @param {Model} model @param {Control} control */
function switchField(model, control) {
  const id = uid('control');
  const help = hint(control.description);
  const input = h('input', {
    type: 'checkbox', role: 'switch', id, 'aria-describedby': help?.id,
    on: { change: () => setValue(model.name, control.name, input.checked) },
  });
  const element = h('div', { class: 'field switch', data: { control: control.name } }, h('div', { class: 'row' }, h('label', { htmlFor: id }, titleOf(control)), input), help);
  element.refresh = () => (input.checked = Boolean(valueOf(model.name, control)));
  element.refresh();
  return element;
}

/** @param {Model} model @param {Control} control */
function choiceField(model, control) {
  const id = uid('control');
  const help = hint(control.description);
  const select = h(
    'select',
    { id, 'aria-describedby': help?.id, on: { change: () => setValue(model.name, control.name, select.value || null) } },
    control.default === null && h('option', { value: '' }, 'default'),
    control.choices.map((choice) => h('option', { value: choice }, choice)),
  );
  const element = h('div', { class: 'field', data: { control: control.name } }, h('div', { class: 'row' }, h('label', { htmlFor: id }, titleOf(control)), select), help);
  element.refresh = () => (select.value = valueOf(model.name, control) ?? '');
  element.refresh();
  return element;
}

/** A number: a slider where it has a range, the number itself, `auto` and a painted map where they may stand for it. */
function numberField(model, control) {
  const id = uid('control');
  const help = hint(control.description);
  const title = titleOf(control);
  const bounded = control.min !== null && control.max !== null;
  const step = stepOf(control);
  const any = control.type === 'integer' ? '1' : 'any';
  const change = (/** @type {any} */ value) => setValue(model.name, control.name, value);
  const typed = (/** @type {HTMLInputElement} */ input) => {
    const value = input.value === '' ? null : Number(input.value);
    if (value === null && control.default === null) change(undefined);
    else if (value !== null && Number.isFinite(value)) change(value);
  };
  const text = h('input', {
    type: 'number', class: 'number', id, min: control.min, max: control.max, step: any, inputmode: 'decimal',
    'aria-describedby': help?.id, placeholder: control.default === null ? 'default' : null,
    on: { input: () => text.checkValidity() && typed(text), change: () => corrected() },
  });
  const slider = bounded
    ? h('input', {
        type: 'range', min: control.min, max: control.max, step, 'aria-label': `${title}, slider`, 'aria-describedby': help?.id,
        on: { input: () => change(Number(slider.value)) },
      })
    : null;
  const warning = h('p', { class: 'problem', hidden: true, role: 'alert' });
  const corrected = () => {
    const outside = text.value !== '' && !text.checkValidity();
    warning.hidden = !outside;
    warning.textContent = outside
      ? `${title} is a ${control.type === 'integer' ? 'whole ' : ''}number${control.min !== null ? ` from ${number(control.min, 3)}` : ''}${control.max !== null ? ` to ${number(control.max, 3)}` : ''}.`
      : '';
  };
  const auto = control.auto
    ? h('input', { type: 'checkbox', id: uid('auto'), on: { change: () => change(auto.checked ? 'auto' : numeric()) } })
    : null;
  const numeric = () => (slider ? Number(slider.value) : (control.min ?? 0));
  const map = control.spatial
    ? h('input', {
        type: 'checkbox', id: uid('map'),
        on: {
          change: () => {
            change(map.checked ? PAINTED : control.default);
            set(map.checked ? { tool: 'brush', painting: control.name } : { tool: 'pan', painting: 'mask' });
          },
        },
      })
    : null;
  const paint = map ? button({ label: `Paint the map of ${title}`, text: 'Paint', class: 'small', click: () => set({ tool: 'brush', painting: control.name }) }) : null;
  const chips = control.name === 'scale' && model.scales.length > 1
    ? h('div', { class: 'chips', role: 'group', 'aria-label': 'Scales of this model' }, model.scales.map((scale) => button({ label: `× ${scale}`, class: 'small', data: { scale }, click: () => change(scale) })))
    : null;
  const reset = button({ label: `Reset ${title}`, icon: 'reset', class: 'quiet', click: () => change(undefined) });
  const element = h(
    'div',
    { class: 'field', data: { control: control.name } },
    h('div', { class: 'row' }, h('label', { htmlFor: id }, title), reset, text),
    slider,
    chips,
    (auto || map) &&
      h(
        'div',
        { class: 'row start' },
        auto && h('label', { class: 'check' }, auto, 'Find it automatically'),
        map && h('label', { class: 'check' }, map, 'A painted map'),
        paint,
      ),
    help,
    warning,
  );
  element.refresh = () => {
    const value = valueOf(model.name, control);
    const isNumber = typeof value === 'number';
    if (auto) auto.checked = value === 'auto';
    if (map) map.checked = value === PAINTED;
    if (paint) paint.hidden = value !== PAINTED;
    if (slider) {
      slider.disabled = value === PAINTED;
      slider.classList.toggle('unset', !isNumber);
      if (isNumber) slider.value = String(value);
      slider.setAttribute('aria-valuetext', isNumber ? shown(value) : value === 'auto' ? 'automatic' : shown(value));
    }
    text.disabled = value === PAINTED;
    text.placeholder = value === 'auto' ? 'auto' : value === PAINTED ? 'map' : control.default === null ? 'default' : '';
    if (document.activeElement !== text || Number(text.value) !== value) text.value = isNumber ? String(Number(value.toFixed(4))) : '';
    corrected();
    reset.disabled = value === control.default;
    for (const chip of chips?.children ?? []) chip.setAttribute('aria-pressed', String(Number(chip.dataset.scale) === value));
  };
  element.refresh();
  return element;
}

/** Regions that are painted on the picture. @param {Model} model @param {Control} control */
function regionsField(model, control) {
  const help = hint(control.description);
  const title = titleOf(control);
  const painting = () => {
    setValue(model.name, control.name, PAINTED);
    set({ tool: 'brush', painting: control.name });
  };
  const clear = button({ label: `Leave ${title} out`, text: 'Leave out', class: 'small', click: () => setValue(model.name, control.name, undefined) });
  const status = h('span', { class: 'hint' });
  const element = h(
    'div',
    { class: 'field', data: { control: control.name } },
    h('div', { class: 'row' }, h('span', { class: 'label' }, title), status),
    h('div', { class: 'row start' }, button({ label: `Paint ${title}`, text: 'Paint', icon: 'brush', class: 'small', click: painting }), clear),
    help,
  );
  element.refresh = () => {
    const on = valueOf(model.name, control) === PAINTED;
    clear.hidden = !on;
    const file = chosenFile();
    status.textContent = !on ? 'none' : file && painted(file.id, control.name) ? 'painted' : 'nothing painted yet';
  };
  element.refresh();
  return element;
}

/**
 * All fields of a model, the advanced ones behind a fold.
 * @param {Element} place @param {Model|null} model
 * @returns {() => void} shows the values anew
 */
export function showControls(place, model) {
  if (!model) {
    fill(place);
    return () => {};
  }
  const fields = new Map(model.controls.map((control) => [control, field(model, control)]));
  const usual = model.controls.filter((control) => !control.advanced);
  const advanced = model.controls.filter((control) => control.advanced);
  const open = /** @type {HTMLDetailsElement|null} */ (place.querySelector('details'))?.open;
  fill(
    place,
    usual.map((control) => fields.get(control)),
    !usual.length && !advanced.length && h('p', { class: 'hint' }, 'This model has nothing to set.'),
    advanced.length > 0 && h('details', { open: open || null }, h('summary', {}, 'More settings'), advanced.map((control) => fields.get(control))),
  );
  return () => {
    for (const element of fields.values()) element.refresh();
  };
}
