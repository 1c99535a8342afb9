// The form under "More": the settings of the next piece, in a musician's words and in numbers.

import { answer, ask } from "./wire.js";
import { byId, element, pick } from "./dom.js";
import { RecordingBox } from "./recording.js";
import { keyOptions } from "./turns.js";

const ALONE = "all there is"; // the level of a chain of one

export class Form {
  constructor(about, make, makeFour) {
    Object.assign(this, { about, rate: about.rate });
    this.box = new RecordingBox(about, "play", 5, about.longest_recording);
    byId("recording").replaceWith(this.box.root);
    for (const [field, id] of Object.entries({ recorded: "recorded", nearness: "nearness", keeps: "keep", labelled: "labelled", label: "label", scored: "scored", detailed: "detailed", levels: "level", finer: "finer", replayed: "replayed", sliders: "temperatures", weights: "weights", epoch: "epoch" })) this[field] = byId(id);
    byId("key").append(...keyOptions());
    for (const { name, about: title, least, floor, most } of about.controls.filter(({ score }) => score)) Object.assign(byId(name), { min: floor ?? least, max: most, title });
    byId("seconds").max = about.longest;
    this.weights.append(...about.folders.map(({ name }) => element("option", { value: name }, name)));
    this.weights.addEventListener("change", () => this.lay());
    byId("form").addEventListener("change", ({ target }) => (target.type === "radio" || target.id === "endless") && this.refresh(target.name));
    byId("make-four").addEventListener("click", makeFour);
    this.box.addEventListener("recording", () => this.refresh());
    byId("form").addEventListener("submit", (event) => (event.preventDefault(), make()));
    this.lay();
  }

  radio(name, value, label, note, checked) {
    return element("label", { class: "choice" }, element("input", { type: "radio", name, value, checked }), element("span", {}, label, element("small", {}, ` ${note}`)));
  }

  get folder() { return this.about.folders.find(({ name }) => name === this.weights.value); }

  word(level) {
    const { levels, ending } = this.folder;
    return levels.length === 1 ? ALONE : level === ending ? "Recommended" : level > ending ? "Coarser" : "Finer";
  }

  lay() {
    const { levels, ending, epochs, labels, temperatures } = this.folder;
    this.labelled.hidden = !labels.length;
    this.detailed.hidden = levels.length === 1;
    this.finer.hidden = ending === levels.at(-1);
    this.detail = null;
    this.label.replaceChildren(element("option", { value: "" }, "any of them"), ...labels.map((name) => element("option", { value: name }, name)));
    const frames = (level) => `${level}x, ${Math.round(this.rate / level).toLocaleString("en")} frames a second`;
    this.levels.replaceChildren(...levels.map((level) => this.radio("level", level, this.word(level), frames(level), level === ending)));
    const above = levels.slice(0, -1);
    const near = (i) => (i === 0 ? "Free" : i === above.length - 1 ? "Close" : "Between");
    this.keeps.replaceChildren(...above.map((level, i) => this.radio("keep", level, near(i), `keeps ${level}x`, i === 0)));
    this.sliders.replaceChildren(...Object.entries(temperatures).map(([level, value]) => {
      const shown = element("output", {}, String(value));
      return element("label", { class: "slide" }, element("span", {}, level), element("input", { type: "range", id: `temperature-${level}`, min: level === "score" ? 0.5 : 0, max: 2, step: 0.01, value, "aria-label": `Temperature of level ${level}`, oninput: (event) => (shown.textContent = event.target.value) }), shown);
    }));
    const named = epochs.filter(Boolean).map((tag) => element("option", { value: tag }, tag === "best" ? "best" : `epoch ${Number(tag)}`));
    this.epoch.replaceChildren(element("option", { value: "" }, epochs.includes("") ? "the default set" : "the best set"), ...named);
    this.refresh();
  }

  chosen(name) { return byId("form").querySelector(`input[name=${name}]:checked`)?.value; }
  input(name, value) { return byId("form").querySelector(`input[name=${name}][value="${value}"]`); }

  choose(name, value) {
    const input = this.input(name, value);
    if (input) input.checked = true;
  }

  /** Show the place of a recording, and choose a mode that needs one. */
  expectRecording(mode) {
    byId("more").open = true;
    if (this.chosen("mode") === "new") this.choose("mode", mode);
    this.refresh();
  }

  /** Disable a choice and say why; with why = "", enable it. */
  forbid(name, value, why) {
    const input = this.input(name, value);
    input.disabled = Boolean(why);
    input.parentElement.title = why;
  }

  /** Show what the mode needs, and keep the choices consistent: `changed`, the last choice, decides. */
  refresh(changed) {
    const { levels, ending } = this.folder;
    const [top] = levels;
    this.forbid("mode", "vary", levels.length === 1 ? "These weights have one level: a variation would keep nothing or everything." : "");
    this.forbid("mode", "perform", this.folder.score ? "" : "These weights have no score.");
    if (this.input("mode", this.chosen("mode")).disabled) this.choose("mode", "new");
    const mode = this.chosen("mode");
    if (mode !== this.mode) {
      // A variation has its own detail.
      if (mode === "vary") this.detail = this.chosen("level");
      else if (this.mode === "vary") this.choose("level", this.detail ?? ending);
      this.mode = mode;
    }
    this.recorded.hidden = mode === "new";
    byId("keep-original").parentElement.hidden = this.box.field("start").parentElement.hidden = this.box.field("seconds").parentElement.hidden = mode !== "continue";
    this.nearness.hidden = mode !== "vary";
    this.scored.hidden = mode === "vary" || !this.folder.score;
    this.box.showRegion(mode === "continue");
    byId("length").hidden = byId("endless").checked;
    this.forbid("level", top, mode === "vary" ? "A variation keeps this level: nothing would be left to make." : "");
    if (mode !== "vary") return;
    if (this.input("level", top).checked) this.choose("level", levels[1]);
    const [level, keep] = [Number(this.chosen("level")), Number(this.chosen("keep"))];
    if (keep > level) return;
    if (changed === "keep") this.choose("level", levels.find((finer) => finer < keep));
    else this.choose("keep", levels.findLast((coarser) => coarser > level));
  }

  values() {
    const { start, seconds, ...recording } = this.box.values();
    const temperature = Object.fromEntries(Object.keys(this.folder.temperatures).map((level) => [level, Number(byId(`temperature-${level}`).value)]));
    return {
      mode: this.chosen("mode"), ...recording, prompt_start: start, prompt_seconds: seconds, keep_original: byId("keep-original").checked, keep: this.chosen("keep"),
      seconds: byId("endless").checked ? "endless" : byId("seconds").value, level: this.chosen("level"), seed: byId("seed").value.trim(),
      weights: this.weights.value, epoch: this.epoch.value, temperature, label: this.label.value, latency: this.latency, ...this.firstChange(), changes: byId("replay").checked ? this.changes ?? "" : "",
    };
  }

  firstChange() { return Object.fromEntries([...this.scored.querySelectorAll("input, select")].map(({ id, value }) => [id, this.scored.hidden ? "" : value])); }

  async whole(more = {}) {
    if ((more.mode ?? this.chosen("mode")) !== "new") await this.box.pending;
    return { ...this.values(), ...more };
  }

  /** Fill the form from a link's query. Returns an error message, or "". */
  async follow(query) {
    const link = Object.fromEntries(new URLSearchParams(query));
    if (!Object.keys(link).length) return "";
    const read = (more) => answer(ask("studio/settings", { ...link, ...more }));
    let words = "";
    const form = await read().catch((error) => {
      words = error.message; // the recording may be gone; the rest of the link is still valid
      return read({ mode: "new" }).catch(() => null);
    });
    if (!form) return `The link cannot be followed. ${words}`;
    const s = { ...form.settings, ...(words && { mode: link.mode, keep: link.keep }) };
    byId("more").open = true;
    this.weights.value = s.weights;
    this.lay();
    this.choose("mode", s.mode);
    this.refresh();
    this.fill({ ...s, ...Object.fromEntries(["tempo", "density", "seed"].map((name) => [name, link[name] ?? ""])) });
    [this.changes, this.latency] = [link.changes, link.latency];
    this.replayed.hidden = !link.changes;
    if (form.recording) {
      this.box.field("start").value = s.prompt_start;
      this.box.field("seconds").value = s.prompt_seconds;
      this.box.show(form.recording);
    }
    this.refresh();
    return words;
  }

  fill(s) {
    if (s.weights && s.weights !== this.weights.value && this.about.folders.some(({ name }) => name === s.weights)) {
      this.weights.value = s.weights;
      this.lay();
    }
    for (const name of ["level", "keep"]) if (s[name] !== undefined) this.choose(name, s[name]);
    for (const [field, value] of [[this.label, s.label], [byId("key"), s.key]]) if (value !== undefined) pick(field, value);
    for (const name of ["tempo", "density", "chords", "seed", "epoch"]) if (s[name] !== undefined) byId(name).value = s[name];
    if (s.seconds !== undefined) byId("endless").checked = s.seconds === null || s.seconds === "endless";
    if (!byId("endless").checked && s.seconds) byId("seconds").value = s.seconds;
    if (s.keep_original !== undefined) byId("keep-original").checked = s.keep_original;
    for (const [level, value] of Object.entries(s.temperature ?? {})) {
      const slider = byId(`temperature-${level}`);
      if (slider) slider.value = value;
      slider?.dispatchEvent(new Event("input"));
    }
    this.refresh();
  }
}
