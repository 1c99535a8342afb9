// What can be undone: changes of controls, and edits of the score.

import { byId } from "./dom.js";

const TOGETHER = 1000; // milliseconds within which changes of the same controls are one step

/** A change as {control: value}; the control of a level is "512x temperature". */
export const flat = (change) => Object.fromEntries(Object.entries(change).flatMap(([name, value]) => (name !== "levels" ? [[name, value]] : Object.entries(value).flatMap(([level, fields]) => Object.entries(fields).map(([field, x]) => [`${level} ${field}`, x])))));

export function changeOf(values) {
  const change = {};
  for (const [name, value] of Object.entries(values)) {
    const [level, field] = name.split(" ");
    if (field) ((change.levels ??= {})[level] ??= {})[field] = value;
    else change[name] = value;
  }
  return change;
}

export class History {
  constructor() {
    this.clear();
    for (const way of ["undo", "redo"]) byId(`${way}-change`).addEventListener("click", () => this.move(way));
  }

  /** Remember a step, {undo, redo}; quick steps with the same `key` are one. */
  add(step) {
    const [last, at] = [this.done.at(-1), performance.now()];
    if (step.key && last?.key === step.key && at - last.at < TOGETHER) Object.assign(last, { redo: step.redo, at });
    else this.done.push({ ...step, at });
    this.undone = [];
    this.show();
  }

  move(way) {
    const [from, to] = way === "undo" ? [this.done, this.undone] : [this.undone, this.done];
    const step = from.pop();
    if (!step) return;
    to.push({ ...step, at: 0 });
    step[way]();
    this.show();
  }

  clear() {
    Object.assign(this, { done: [], undone: [] });
    this.show();
  }

  show() { [byId("undo-change").disabled, byId("redo-change").disabled] = [!this.done.length, !this.undone.length]; }
}
