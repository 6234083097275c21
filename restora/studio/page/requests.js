/** What the page asks of the server when something is to be restored. */

import { painted } from './mask.js';
import { chosenFile, PAINTED, settings, state } from './state.js';

/**
 * Controls, mask and blend for a model, as the server takes them: masks that were painted are sent first.
 * @param {string} model @param {Record<string, any>} [others] controls of a variant
 */
export async function asked(model, others = {}) {
  const file = chosenFile();
  const controls = { ...settings(model), ...others };
  for (const [name, value] of Object.entries(controls)) {
    if (value !== PAINTED) continue;
    const map = file && painted(file.id, name);
    if (map) controls[name] = await map.id();
    else delete controls[name];
  }
  const region = file && painted(file.id, 'mask');
  return { model, controls, blend: state.blend, ...(region ? { mask: await region.id() } : {}) };
}
