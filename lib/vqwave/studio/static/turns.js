// The controls under "Notes, pitch, levels", made from the list in `studio/about`.

import { SLIDE, byId, element, pick, seldom } from "./dom.js";
import { flat } from "./history.js";
import { Midi } from "./midi.js";

const FREEZE = 4; // seconds of the top level that are repeated
const NAMES = ["C", "C♯", "D", "E♭", "E", "F", "F♯", "G", "A♭", "A", "B♭", "B"];
const TONICS = ["C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B"]; // as `Stream.set` takes them
const FIRST = 60; // the MIDI number of the first
const TAPS = 4; // taps that set the tempo
const PAUSE = 2000; // milliseconds after which taps are counted from the beginning

export function titleOf({ name }) {
  const words = name.replace("_", "-");
  return words[0].toUpperCase() + words.slice(1);
}

export function keyOptions() {
  const keys = ["major", "minor"].flatMap((scale) => TONICS.map((tonic, i) => [`${tonic}-${scale}`, `${NAMES[i]} ${scale}`]));
  return [["", "any key"], ["major", "major"], ["minor", "minor"], ...keys].map(([value, words]) => element("option", { value }, words));
}

/** A square whose corners are labels, which blend under a finger. The arrow keys move the point, too. */
class Pad {
  constructor(labels, send) {
    Object.assign(this, { send, x: 0.5, y: 0.5 });
    const corner = (i) => element("select", { "aria-label": `Label of corner ${i + 1}`, onchange: () => this.move(this.x, this.y) }, ...["", ...labels].map((name) => element("option", { value: name, selected: name === labels[Math.floor((i * labels.length) / 4)] }, name || "–")));
    this.corners = [0, 1, 2, 3].map(corner);
    this.dot = element("span", { class: "dot" });
    this.square = element("div", { class: "pad", tabindex: 0, role: "application", "aria-label": "Pad that blends the labels of its corners; the arrow keys move the point" }, this.dot);
    const to = (event) => event.buttons && this.move(event.offsetX / this.square.clientWidth, event.offsetY / this.square.clientHeight);
    for (const kind of ["pointerdown", "pointermove"]) this.square.addEventListener(kind, to);
    this.square.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, -0.1], ArrowDown: [0, 0.1] }[event.key];
      if (!step) return;
      event.preventDefault();
      this.move(this.x + step[0], this.y + step[1]);
    });
    const [a, b, c, d] = this.corners;
    this.root = element("div", { class: "turn surface" }, element("p", {}, element("b", {}, "Pad"), " Hold and move the point between the sounds of the corners"), element("div", { class: "row" }, a, b), this.square, element("div", { class: "row" }, c, d));
  }

  move(x, y) {
    [this.x, this.y] = [x, y].map((place) => Math.min(1, Math.max(0, place)));
    Object.assign(this.dot.style, { left: `${100 * this.x}%`, top: `${100 * this.y}%` });
    const shares = [(1 - this.x) * (1 - this.y), this.x * (1 - this.y), (1 - this.x) * this.y, this.x * this.y];
    const mixed = new Map();
    this.corners.forEach(({ value }, i) => value && shares[i] > 0.01 && mixed.set(value, (mixed.get(value) ?? 0) + shares[i]));
    if (mixed.size) seldom("pad", 4 * SLIDE, () => this.send([...mixed].map(([name, share]) => `${name}:${share.toFixed(3)}`).join(",")));
  }
}

export class Turns {
  /** player: receives the changes; controls: of `studio/about`. */
  constructor(player, controls) {
    Object.assign(this, { player, controls, first: {}, held: new Set(), inputs: [], sampled: [], shows: new Map() });
    for (const name of ["wild", "loudness"]) this.shows.set(name, (value) => (byId(name).value = value));
    this.shows.set("hold", (value) => player.showHeld(value > 0)).set("freeze", (value) => this.showFrozen(value > 0));
    this.shows.set("notes", (notes) => {
      this.held = new Set(notes);
      this.show();
    });
    byId("turns").append(...controls.filter((one) => !one.sampled && !one.score).map((one) => this.group(one, [["", (value) => ({ [one.name]: value })]])));
    this.whole = this.inputs.length; // sliders that do not depend on the take
    this.mutate = byId("turns").querySelector("[aria-label=Mutate]")?.closest(".turn");
    this.keys = NAMES.map((name, i) =>
      element("button", { type: "button", class: "small", "aria-pressed": "false", onclick: () => this.press(FIRST + i, !this.held.has(FIRST + i)) }, name));
    byId("notes").append(...this.keys);
    byId("freeze").addEventListener("click", () => this.freeze());
    this.midi = new Midi(player, (note, down) => this.press(note, down), (tempo, change) => this.setTempo(tempo, change));
  }

  /** A control, what it does, and a slider for each of `rows`: [label, the change of a value]. */
  group(one, rows) {
    const title = titleOf(one);
    const sliders = rows.map(([label, change]) => this.slider([title, label].filter(Boolean).join(" "), label, one, change));
    const about = `${one.unit ? `in ${one.unit}: ` : ""}${one.about}`;
    return element("div", { class: "turn", title: about }, element("p", {}, element("b", {}, title), one.score ? null : ` ${about}`), ...sliders);
  }

  slider(name, label, one, change) {
    const first = this.first[one.name] ?? one.default;
    const output = element("output", {}, String(first));
    const [min, max] = one.slide ?? [one.least, one.most];
    const control = Object.keys(flat(change(0)))[0];
    const input = element("input", { type: "range", min, max, step: one.step, value: first, "aria-label": name, "data-control": control });
    input.addEventListener("dblclick", () => this.player.steer(change(one.default)));
    this.shows.set(control, (value) => ([input.value, output.textContent] = [value, value]));
    input.addEventListener("input", () => {
      output.textContent = input.value;
      if (one.name === "tempo") this.touched = performance.now();
      seldom(name, SLIDE, () => this.player.steer(change(Number(input.value))));
    });
    this.inputs.push(input);
    return element("label", { class: "slide" }, label ? element("span", {}, label) : null, input, output);
  }

  /** Show the sliders and labels of a new take; reset the other controls. */
  begin({ levels, labels = [], label = "", score = false, sampled = {}, controls = {} }) {
    [this.first, this.touched, this.score] = [controls, 0, score];
    const generated = levels.filter((level) => level.generated);
    this.labels?.closest("label").remove();
    this.labels = null;
    if (generated.length && labels.length) {
      const names = ["", ...labels, ...(label && !labels.includes(label) ? [label] : [])];
      this.labels = element("select", { "aria-label": "Label", title: "Pass into music like this over a second", onchange: () => this.player.steer({ label: this.labels.value }, `like ${this.labels.value || "any"}`) }, ...names.map((name) => element("option", { value: name, selected: name === label }, name || "any of them")));
      byId("turns").prepend(element("label", { class: "row" }, "Music like ", this.labels));
      this.shows.set("label", (value) => pick(this.labels, value));
    }
    for (const group of [...this.sampled, ...byId("turns").querySelectorAll(".surface")]) group.remove();
    this.inputs.splice(this.whole);
    const names = (one) => (sampled[one.name] ?? []).filter((level) => level !== "score" || one.name !== "top_p"); // a score without unlikely notes has none
    this.sampled = this.controls.filter((one) => names(one).length).map((one) =>
      this.group(one, names(one).map((level) => [level, (value) => ({ levels: { [level]: { [one.name]: value } } })])));
    byId("turns").append(...this.sampled);
    if (generated.length && labels.length > 1) byId("turns").prepend(new Pad(labels, (label) => this.player.steer({ label })).root);
    byId("front").replaceChildren(...(score ? [this.moods(labels), ...this.controls.filter((one) => one.score).map((one) => this.group(one, [["", (value) => ({ [one.name]: value })]])), this.form()] : []));
    if (score) this.tap(byId("front").querySelector("[aria-label=Tempo]"));
    this.reset();
  }

  moods(labels) {
    const moods = Object.entries(this.player.form.about.moods).filter(([, { label }]) => !label || labels.includes(label));
    const buttons = moods.map(([word, change]) => element("button", { type: "button", class: "small", "aria-label": `Mood: ${word}`, onclick: () => this.player.steer(change, word) }, word));
    this.inputs.push(...buttons);
    return element("div", { class: "buttons moods", role: "group", "aria-label": "Mood" }, element("b", {}, "Mood"), ...buttons);
  }

  /** Add a button beside the slider of the tempo, which four taps set. */
  tap(slider) {
    let taps = [];
    const button = element("button", { type: "button", class: "small", title: "Tap four beats to set the tempo", onclick: ({ timeStamp }) => {
      taps = timeStamp - taps.at(-1) < PAUSE ? [...taps, timeStamp].slice(-TAPS) : [timeStamp];
      if (taps.length < TAPS) return;
      this.setTempo((60000 * (TAPS - 1)) / (timeStamp - taps[0]));
    } }, "Tap");
    slider.step = 1;
    slider.closest(".turn").append(button);
    this.inputs.push(button);
  }

  /** Show the tempo of the score, unless the slider has just been moved. */
  showTempo(tempo) { if (tempo && !(performance.now() < this.touched + PAUSE)) this.shows.get("tempo")?.(Math.round(tempo)); }

  /** Set the tempo, whose range is wider than the slider's, if it differs by `change` at least. */
  setTempo(tempo, change = 0) {
    const { floor, most } = this.controls.find(({ name }) => name === "tempo");
    if (!this.score || !this.steerable || Math.abs(tempo - (this.player.values.tempo ?? 0)) < change) return;
    this.touched = performance.now();
    seldom("tempo", SLIDE, () => this.player.steer({ tempo: Math.round(Math.min(Math.max(tempo, floor), most)) }));
  }

  form() {
    const key = element("select", { "aria-label": "Key", onchange: () => this.player.steer({ key: key.value }, key.value ? `in ${key.selectedOptions[0].text}` : "any key") }, ...keyOptions());
    pick(key, this.first.key ?? "");
    const ask = (section, label) => element("button", { type: "button", onclick: () => this.player.steer({ section }) }, label);
    const buttons = [ask("new", "New section"), ask("theme", "Bring the theme back")];
    const chords = element("input", { type: "text", "aria-label": "Chords", value: this.first.chords ?? "", placeholder: "Am F C G", autocomplete: "off", title: "A bar each, again and again; the score follows them. Empty: none", onchange: () => this.player.steer({ chords: chords.value }, chords.value || "no chords") });
    this.inputs.push(key, chords, ...buttons);
    this.shows.set("key", (value) => pick(key, value)).set("chords", (value) => (chords.value = value));
    return element("div", { class: "row" }, element("label", {}, element("b", {}, "Key "), key), element("label", {}, element("b", {}, "Chords "), chords), ...buttons);
  }

  showValues(values) { for (const [name, value] of Object.entries(values)) this.shows.get(name)?.(value); }

  /** The value of a control when the take began. */
  firstOf(name) {
    const [level, field] = name.split(" ");
    const one = this.controls.find((control) => control.name === (field ?? level));
    return this.first[name] ?? one?.default ?? { notes: [], key: "", chords: "", label: this.player.take.label }[name] ?? 0;
  }

  reset() {
    for (const { type, defaultValue, dataset } of this.inputs) if (type === "range") this.shows.get(dataset.control)(defaultValue);
    this.shows.get("notes")([]);
    this.showFrozen(false);
  }

  allow(steerable) {
    this.steerable = steerable;
    for (const one of [...this.inputs, ...this.keys, byId("freeze"), ...(this.labels ? [this.labels] : [])]) one.disabled = !steerable;
    this.showFrozen(this.frozen);
  }

  /** Mutate changes what is frozen, and nothing else: it is there while something is. */
  showFrozen(frozen) {
    this.frozen = frozen;
    byId("freeze").setAttribute("aria-pressed", String(frozen));
    if (this.mutate) this.mutate.hidden = !frozen;
  }

  freeze() {
    const frozen = !this.frozen;
    this.showFrozen(frozen);
    this.player.steer({ freeze: frozen ? FREEZE : 0 }, frozen ? "frozen" : "thawed");
  }

  /** Hold or release a note; the notes of a chord are sent together. */
  press(note, down) {
    this.held[down ? "add" : "delete"](note);
    this.show();
    seldom("notes", SLIDE, () => this.player.steer({ notes: [...this.held].sort((a, b) => a - b) }));
  }

  show() {
    const classes = new Set([...this.held].map((note) => note % 12));
    this.keys.forEach((key, i) => key.setAttribute("aria-pressed", String(classes.has(i))));
  }
}
