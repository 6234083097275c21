/** What the page says: sentences beside what caused them, and short news for everybody, screen readers too. */

import { byId, h, setText } from './dom.js';

/** A sentence about something that went wrong, to be put beside its cause. @param {string} sentence */
export const problem = (sentence) => h('p', { class: 'problem', role: 'alert' }, sentence);

let timer = 0;
/** Short news at the foot of the picture; gone after a while. @param {string} sentence */
export function news(sentence) {
  const place = byId('news');
  setText(place, sentence);
  place.classList.add('shown');
  clearTimeout(timer);
  timer = setTimeout(() => {
    place.classList.remove('shown');
    setText(place, '');
  }, 6000);
}

/** Copies a text; where the browser gives a page no clipboard (plain http from another machine), by a selection. @param {string} text */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = h('textarea', { value: text, class: 'hidden-visually', readonly: true });
    document.body.append(area);
    area.select();
    document.execCommand('copy');
    area.remove();
  }
  news('Copied.');
}
