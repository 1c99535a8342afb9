// The codec page: a recording and its reconstructions side by side; switching leaves no gap.

import { alertIn, button, byId, element, film, inField, report } from "./dom.js";
import { Codes, Strip, drawOctaves, drawPlayhead, fitted, tables } from "./pictures.js";
import { RecordingBox } from "./recording.js";
import { clock, wav } from "./sound.js";
import { Together } from "./together.js";
import { ask, cutter, frames, inWords } from "./wire.js";

const FIGURES = [
  ["bitrate_kbps", "kbit/s", 2, "bits that the codes take"], ["notes", "notes kept", 0, "share of the notes that the copy keeps"],
  ["chroma", "chords kept", 0, "similarity of the chords"], ["sc_db", "SC dB", 1, "spectral convergence: lower is closer"],
  ["mel", "mel", 3, "distance of mel spectrograms: lower is closer"], ["si_sdr_db", "SI-SDR dB", 1, "similarity of the waveforms: higher is closer, but a coarse codec can sound right and score badly"],
  ["usage", "codes used", 0, "share of the codebook"],
];
const SHARES = ["usage", "notes", "chroma"];
const VERDICTS = [[0.9, "All of it stays."], [0.72, "The notes stay, fine detail is lost."], [0.5, "Much of the melody stays, blurred."]]; // from which share of notes kept

function verdict({ notes, chroma }) {
  if (notes === null) return "This part is silent.";
  return VERDICTS.find(([least]) => notes >= least)?.[1] ?? (chroma >= 0.65 ? "Chords stay, melody is lost." : "Mood stays, melody is lost.");
}

export class Codecs extends Together {
  constructor(about) {
    super();
    this.box = new RecordingBox(about, "codec", 20, about.longest_comparison);
    this.weights = element("select", { id: "codec-weights", onchange: () => this.box.recording && this.listen() }, ...about.codecs.map((name) => element("option", { value: name }, name)));
    this.several = about.codecs.length > 1;
    byId("codec-recording").append(element("label", { class: "row", hidden: !this.several }, "Codecs of ", this.weights), this.box.root);
    this.stage = byId("codec-stage");
    for (const kind of ["recording", "region"]) this.box.addEventListener(kind, () => this.listen());
    for (const part of ["start", "seconds"]) this.box.field(part).addEventListener("change", () => this.box.recording && this.listen());
    document.addEventListener("keydown", (event) => {
      if (event.code !== "Space" || inField(event) || byId("codecs").hidden || !this.sounds.length || this.stage.hidden) return;
      event.preventDefault();
      this.toggle();
    });
    film(() => this.draw());
  }

  async listen() {
    this.control?.abort();
    this.silence();
    const control = (this.control = new AbortController());
    alertIn(byId("codec-alert"), "");
    this.stage.hidden = true;
    for (const { link } of this.sounds) URL.revokeObjectURL(link);
    Object.assign(this, { sounds: [], position: 0, chosen: 0, complete: false });
    this.tell("Asking the studio …", null);
    try {
      this.table = await tables();
      for await (const [about, payload] of frames(await ask("studio/comparisons", { ...this.box.values(), weights: this.weights.value }, control.signal))) {
        if (this.control !== control) return;
        if (about.error) throw new Error(about.error);
        if (about.progress) this.tell(`${about.progress} …`, about.share);
        else if (about.comparison) {
          this.about = about.comparison;
          this.lay();
        } else if (about.sound) this.add(about.sound, payload);
        else {
          this.complete = true;
          this.tell(`${this.about.name}: ${this.length.toFixed(1)} s${this.several ? `, through the codecs of ${this.about.weights}` : ""}`);
        }
      }
    } catch (error) {
      if (control.signal.aborted) return;
      alertIn(byId("codec-alert"), inWords(error));
      this.tell("");
    }
  }

  tell(words, share) { report("codec-status", "codec-waiting", words, share); }

  /** The empty stage of a comparison, which `add` fills. */
  lay() {
    Object.assign(this, { picks: [], canvases: [] });
    this.stage.hidden = false;
    this.stage.replaceChildren(
      this.bar("What is heard", "Play"),
      (this.lanes = element("div", { class: "lanes" })),
      element("p", { class: "faint" }, "Click on a picture to hear that version from there. The strip under it, if there is one, shows its codes."),
      element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Figures" }, element("table", {},
        element("thead", {}, element("tr", {}, element("th", { scope: "col" }, "Level"), element("th", { scope: "col", class: "words" }, "In words"), ...FIGURES.map(([, name, , why]) => element("th", { scope: "col", title: why }, name)), element("th", { scope: "col" }, "File"))),
        (this.rows = element("tbody", {})))),
    );
  }

  /** Show a sound: its button, pictures and figures. The first, the original, plays at once. */
  add(about, payload) {
    const cut = cutter(payload);
    const pcm = cut(Int16Array, this.about.samples);
    const spectrum = new Strip(about.bands, null, true);
    spectrum.append(cut(Uint8Array, about.columns * about.bands), this.table.sound);
    const codes = about.codes ? new Codes(about, about.column) : null;
    codes?.append(cut(Uint16Array, about.codes), this.table.codes);
    const buffer = clock(this.about.rate).createBuffer(1, pcm.length, this.about.rate);
    buffer.copyToChannel(Float32Array.from(pcm, (value) => value / 32768), 0);
    const i = this.sounds.length;
    this.put({ ...about, buffer, spectrum, codes, link: URL.createObjectURL(wav([pcm], this.about.rate)) });
    this.describe(this.sounds[i], i);
    if (!i) {
      this.choose(0);
      this.toggle();
    }
  }

  describe(sound, i) {
    const { figures, level, codes, link, name } = sound;
    const title = level ? `${level}x` : "Original";
    const figure = ([key, , digits]) => (!figures ? "" : figures[key] == null ? "–" : SHARES.includes(key) ? `${(100 * figures[key]).toFixed(0)} %` : figures[key].toFixed(digits));
    const canvases = ["Notes", "Codes"].map((what) => element("canvas", { role: "img", "aria-label": `${what}: ${title}`, onclick: (event) => this.choose(i, (event.offsetX / event.target.clientWidth) * this.length) }));
    if (codes) canvases[1].style.height = `${codes.books > 1 ? codes.high(96) : 32}px`;
    this.canvases.push(canvases);
    this.picks.push(button(title, () => this.choose(i), { "aria-pressed": "false" }));
    this.pickBox.append(this.picks[i]);
    const words = level ? ` ${verdict(figures)}` : ` 16 bit, ${((this.about.rate * 16) / 1000).toFixed(0)} kbit/s`;
    this.lanes.append(element("figure", { class: "lane compared" }, element("figcaption", {}, element("span", {}, element("b", {}, title), words)), canvases[0], codes ? canvases[1] : null));
    this.rows.append(element("tr", {}, element("th", { scope: "row" }, title), element("td", { class: "words" }, figures ? verdict(figures) : ""),
      ...FIGURES.map((one) => element("td", {}, figure(one))),
      element("td", {}, element("a", { class: "button small", href: link, download: `${name}.wav`, "aria-label": `Download ${title} as wav` }, "wav"))));
  }

  async repaint() {
    this.table &&= await tables();
    for (const { spectrum } of this.sounds) spectrum.repaint(this.table.sound);
    this.dirty = true;
  }

  get length() { return this.about.samples / this.about.rate; }

  choose(i, from) {
    super.choose(i, from);
    this.picks.forEach((pick, k) => pick.setAttribute("aria-pressed", String(k === i)));
  }

  draw() {
    if (!this.canvases?.[0]?.[0].clientWidth || (!this.dirty && !this.nodes)) return;
    this.dirty = false;
    const { now, length } = this;
    this.showTime();
    const scale = window.devicePixelRatio || 1;
    this.sounds.forEach((sound, i) => {
      [sound.spectrum, sound.codes].forEach((strip, k) => {
        if (!strip) return;
        const [context, width, height] = fitted(this.canvases[i][k]);
        context.imageSmoothingEnabled = !k;
        strip.draw(context, height, 0, width / (this.about.samples / (strip.each ?? sound.column)), width);
        if (!k) drawOctaves(context, sound, width, height, scale);
        drawPlayhead(context, Math.round((now / length) * width), 0, height, i === this.chosen && !k);
      });
    });
  }
}
