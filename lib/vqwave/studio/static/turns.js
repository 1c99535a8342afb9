// The controls under "Notes, pitch, levels", made from the list in `studio/about`.

import { byId, element, later, pick } from "./dom.js";

const FREEZE = 4; // seconds of the top level that are repeated
const NAMES = ["C", "C♯", "D", "E♭", "E", "F", "F♯", "G", "A♭", "A", "B♭", "B"];
const TONICS = ["C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B"]; // as `Stream.set` takes them
const FIRST = 60; // the MIDI number of the first
const TAPS = 4; // taps that set the tempo
const PAUSE = 2000; // milliseconds after which taps are counted from the beginning
const CLOCK = { message: 0xf8, ticks: 24, beats: 4, pause: 250, change: 0.75 }; // as `Clock` of play/midi.py has them

/** The keys of a score as options of a select. */
export function keyOptions() {
  const keys = ["major", "minor"].flatMap((scale) => TONICS.map((tonic, i) => [`${tonic}-${scale}`, `${NAMES[i]} ${scale}`]));
  return [["", "any key"], ["major", "major"], ["minor", "minor"], ...keys].map(([value, words]) => element("option", { value }, words));
}

export class Turns {
  /** player: receives the changes; controls: of `studio/about`. */
  constructor(player, controls) {
    Object.assign(this, { player, controls, first: {}, held: new Set(), inputs: [], sampled: [] });
    byId("turns").append(...controls.filter((one) => !one.sampled && !one.score).map((one) => this.group(one, [["", (value) => ({ [one.name]: value })]])));
    this.whole = this.inputs.length; // sliders that do not depend on the take
    this.keys = NAMES.map((name, i) =>
      element("button", { type: "button", class: "small", "aria-pressed": "false", onclick: () => this.press(FIRST + i, !this.held.has(FIRST + i)) }, name));
    byId("notes").append(...this.keys);
    byId("freeze").addEventListener("click", () => this.freeze());
    byId("midi").addEventListener("click", () => this.listen());
    byId("midi").hidden = !navigator.requestMIDIAccess;
  }

  /** A control, what it does, and a slider for each of `rows`: [label, the change of a value]. */
  group(one, rows) {
    const words = one.name.replace("_", "-");
    const title = words[0].toUpperCase() + words.slice(1);
    const sliders = rows.map(([label, change]) => this.slider([title, label].filter(Boolean).join(" "), label, one, change));
    return element("div", { class: "turn" }, element("p", {}, element("b", {}, title), ` ${one.unit ? `in ${one.unit}: ` : ""}${one.about}`), ...sliders);
  }

  slider(name, label, one, change) {
    const first = this.first[one.name] ?? one.default;
    const output = element("output", {}, String(first));
    const input = element("input", { type: "range", min: one.least, max: one.most, step: one.step, value: first, "aria-label": name });
    input.addEventListener("input", () => {
      if (input.value > one.least && input.value < (one.floor ?? one.least)) input.value = one.floor;
      output.textContent = input.value;
      later(name, 150, () => this.player.steer(change(Number(input.value)))); // the last value, a few times a second
    });
    this.inputs.push(input);
    return element("label", { class: "slide" }, label ? element("span", {}, label) : null, input, output);
  }

  /** Show the sliders and labels of a new take; reset the other controls. */
  begin({ levels, labels = [], label = "", score = false, sampled = {}, controls = {} }) {
    this.first = controls;
    const generated = levels.filter((level) => level.generated);
    this.labels?.closest("label").remove();
    this.labels = null;
    if (generated.length && labels.length) {
      const names = ["", ...labels, ...(label && !labels.includes(label) ? [label] : [])];
      this.labels = element("select", { "aria-label": "Label", title: "Pass into music like this over a second", onchange: () => this.player.steer({ label: this.labels.value }, `like ${this.labels.value || "any"}`) }, ...names.map((name) => element("option", { value: name, selected: name === label }, name || "any of them")));
      byId("turns").prepend(element("label", { class: "row" }, "Music like ", this.labels));
    }
    for (const group of this.sampled) group.remove();
    this.inputs.splice(this.whole);
    this.sampled = this.controls.filter((one) => sampled[one.name]?.length).map((one) =>
      this.group(one, sampled[one.name].map((level) => [level, (value) => ({ levels: { [level]: { [one.name]: value } } })])));
    if (score) this.sampled.push(...this.controls.filter((one) => one.score).map((one) => this.group(one, [["", (value) => ({ [one.name]: value })]])), this.form());
    byId("turns").append(...this.sampled);
    if (score) this.tap(byId("turns").querySelector("[aria-label=Tempo]"));
    this.reset();
  }

  /** Add a button beside the slider of the tempo, which four taps set. */
  tap(slider) {
    let taps = [];
    const button = element("button", { type: "button", class: "small", title: "Tap four beats to set the tempo", onclick: ({ timeStamp }) => {
      taps = timeStamp - taps.at(-1) < PAUSE ? [...taps, timeStamp].slice(-TAPS) : [timeStamp];
      if (taps.length < TAPS) return;
      this.setTempo(slider, (60000 * (TAPS - 1)) / (timeStamp - taps[0]));
    } }, "Tap");
    slider.step = 1;
    slider.closest(".turn").append(button);
    this.inputs.push(button);
  }

  setTempo(slider, tempo) {
    slider.value = Math.round(tempo);
    slider.dispatchEvent(new Event("input"));
  }

  /** Handle a message of a MIDI clock. After each beat but the first, the mean tempo of the last beats is set. time: in milliseconds. */
  tick(time) {
    if (time - this.ticks?.at(-1) < CLOCK.pause) this.ticks.push(time);
    else [this.ticks, this.ticked] = [[time], 0];
    this.ticks = this.ticks.slice(-CLOCK.ticks * CLOCK.beats - 1);
    const count = this.ticked++;
    const slider = byId("turns").querySelector("[aria-label=Tempo]");
    if (count < 2 * CLOCK.ticks || count % CLOCK.ticks || !slider || slider.disabled) return;
    const tempo = (60000 * (this.ticks.length - 1)) / CLOCK.ticks / (time - this.ticks[0]);
    if (Math.abs(tempo - slider.value) >= CLOCK.change) this.setTempo(slider, tempo);
  }

  /** The key and the sections of the score. */
  form() {
    const key = element("select", { "aria-label": "Key", onchange: () => this.player.steer({ key: key.value }, key.value ? `in ${key.selectedOptions[0].text}` : "any key") }, ...keyOptions());
    pick(key, this.first.key ?? "");
    const ask = (section, label, mark) => element("button", { type: "button", onclick: () => this.player.steer({ section }, mark) }, label);
    const buttons = [ask("new", "New section", "a new section"), ask("theme", "Bring the theme back", "the theme again")];
    this.inputs.push(key, ...buttons);
    return element("div", { class: "turn" }, element("label", { class: "row" }, element("b", {}, "Key"), key), element("div", { class: "buttons" }, ...buttons));
  }

  reset() {
    for (const input of this.inputs) {
      if (input.type !== "range") continue;
      input.value = input.defaultValue; // rounded to a step of the slider
      input.closest("label").querySelector("output").textContent = input.defaultValue;
    }
    this.held.clear();
    this.show();
    this.showFrozen(false);
  }

  allow(steerable) {
    for (const one of [...this.inputs, ...this.keys, byId("freeze"), byId("midi"), ...(this.labels ? [this.labels] : [])]) one.disabled = !steerable;
  }

  showFrozen(frozen) {
    byId("freeze").setAttribute("aria-pressed", String(frozen));
  }

  freeze() {
    const frozen = byId("freeze").getAttribute("aria-pressed") !== "true";
    this.showFrozen(frozen);
    this.player.steer({ freeze: frozen ? FREEZE : 0 }, frozen ? "frozen" : "thawed");
  }

  /** Hold or release a note; the notes of a chord are sent together. */
  press(note, down) {
    if (down) this.held.add(note);
    else this.held.delete(note);
    this.show();
    later("notes", 30, () => this.player.steer({ notes: [...this.held].sort((a, b) => a - b) }));
  }

  show() {
    const classes = new Set([...this.held].map((note) => note % 12));
    this.keys.forEach((key, i) => key.setAttribute("aria-pressed", String(classes.has(i))));
  }

  /** Listen to every MIDI keyboard and clock that the browser offers. */
  async listen() {
    try {
      const access = await navigator.requestMIDIAccess();
      const hear = () => {
        for (const input of access.inputs.values()) input.onmidimessage = ({ data: [status, note, velocity], timeStamp }) => (status === CLOCK.message ? this.tick(timeStamp) : this.hear(status & 0xf0, note, velocity));
      };
      access.onstatechange = () => {
        hear();
        for (const note of [...this.held]) this.press(note, false); // a disconnected keyboard does not release its notes
      };
      hear();
      byId("midi").textContent = access.inputs.size ? "Listening to MIDI" : "No MIDI keyboard is connected";
    } catch {
      byId("midi").textContent = "The browser does not allow MIDI";
    }
  }

  hear(kind, note, velocity) {
    if (kind === 0x90 && velocity) this.press(note, true);
    else if (kind === 0x90 || kind === 0x80) this.press(note, false);
  }
}
