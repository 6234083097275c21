/** Elements made without markup, so that no file name is ever read as HTML. */

const SVG = 'http://www.w3.org/2000/svg';

/**
 * An element. Text becomes text nodes.
 * @param {string} tag
 * @param {Record<string, any>} [props] `on` holds listeners, `data` data attributes, `class` classes; what is a property of the
 *     element (value, checked, disabled) is set as one, the rest as attributes; null, undefined and false are left out.
 * @param {...(Node|string|number|null|undefined|false|Array)} children
 * @returns {any}
 */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === 'on') for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    else if (name === 'data') Object.assign(element.dataset, value);
    else if (name === 'class') element.className = value;
    else if (['value', 'checked', 'disabled', 'hidden', 'multiple', 'htmlFor', 'selected', 'indeterminate'].includes(name)) element[name] = value;
    else element.setAttribute(name, value === true ? '' : String(value));
  }
  append(element, children);
  return element;
}

/** @param {Element} parent @param {any[]} children */
function append(parent, children) {
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false) parent.append(child);
  }
}

/** Empties an element and fills it anew. @param {Element} parent @param {...any} children */
export function fill(parent, ...children) {
  parent.replaceChildren();
  append(parent, children);
}

/** A drawing from icons.svg; the button around it carries the name. @param {string} name */
export function icon(name) {
  const svg = document.createElementNS(SVG, 'svg');
  svg.setAttribute('class', 'icon');
  svg.setAttribute('aria-hidden', 'true');
  const use = document.createElementNS(SVG, 'use');
  use.setAttribute('href', `icons.svg#${name}`);
  svg.append(use);
  return svg;
}

/**
 * A button with a drawing, a word or both.
 * @param {{label: string, icon?: string, text?: boolean|string, class?: string, click?: (event: MouseEvent) => void, key?: string} & Record<string, any>} options
 *     `label` is its name; `text` shows the label (or another text) beside the drawing; `key` is its shortcut
 */
export function button({ label, icon: drawing, text = !drawing, class: classes = '', click, key, ...rest }) {
  const shown = text === true ? label : text;
  return h(
    'button',
    {
      type: 'button',
      class: `${shown ? '' : 'bare '}${classes}`.trim(),
      'aria-label': shown === label ? null : label,
      title: shown === label && !key ? null : key ? `${label} (${key})` : label,
      'aria-keyshortcuts': key,
      on: click ? { click } : {},
      ...rest,
    },
    drawing && icon(drawing),
    shown && h('span', {}, shown),
  );
}

/**
 * Brings the children of `parent` in line with `items`, keeping elements (and the focus on them) by key.
 * @template T
 * @param {Element} parent
 * @param {T[]} items
 * @param {(item: T) => string} key
 * @param {(item: T) => any} create an element with a method `update(item)`
 */
export function keyed(parent, items, key, create) {
  const present = new Map([...parent.children].map((child) => [/** @type {any} */ (child).dataset.key, child]));
  let place = parent.firstElementChild;
  for (const item of items) {
    const name = key(item);
    let element = /** @type {any} */ (present.get(name));
    if (element) present.delete(name);
    else {
      element = create(item);
      element.dataset.key = name;
    }
    element.update?.(item);
    if (element === place) place = place.nextElementSibling;
    else parent.insertBefore(element, place);
  }
  for (const gone of present.values()) gone.remove();
}

/** Sets the text only where it differs: a live region must not repeat itself. @param {Element} element @param {string} text */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

let numbers = 0;
/** An id that no other element has. @param {string} stem */
export const uid = (stem) => `${stem}-${++numbers}`;

/** @param {string} id @returns {any} */
export const byId = (id) => document.getElementById(id);
