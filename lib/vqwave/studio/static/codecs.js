// The codec page: a recording and its reconstructions side by side; switching leaves no gap.

import { alertIn, button, byId, element, film, inField, time } from "./dom.js";
import { Codes, Strip, drawOctaves, drawPlayhead, fitted, tables } from "./pictures.js";
import { RecordingBox } from "./recording.js";
import { audio, claim, clock } from "./sound.js";
import { ask, cutter, frames, inWords, wav } from "./wire.js";

const FIGURES = [
  ["bitrate_kbps", "kbit/s", 2, "bits that the codes take"], ["notes", "notes kept", 0, "share of the notes that are still there"],
  ["chroma", "chords kept", 0, "how alike the chords are"], ["sc_db", "SC dB", 1, "spectral convergence: lower is nearer"],
  ["mel", "mel", 3, "distance of mel spectrograms: lower is nearer"], ["si_sdr_db", "SI-SDR dB", 1, "how alike the waveforms are: higher is nearer, but a coarse codec can sound right and score badly"],
  ["usage", "codes used", 0, "share of the codebook"],
];
const SHARES = ["usage", "notes", "chroma"];
const VERDICTS = [[0.9, "All of it stays."], [0.72, "The notes stay, fine detail is lost."], [0.5, "Much of the melody stays, blurred."]]; // from which share of notes kept

/** How much of the music a codec keeps, in words. */
function verdict({ notes, chroma }) {
  if (notes === null) return "This part is silent.";
  const words = VERDICTS.find(([least]) => notes >= least)?.[1];
  return words ?? (chroma >= 0.65 ? "Chords stay, melody is lost." : "Mood stays, melody is lost.");
}

export class Codecs {
  constructor(about) {
    Object.assign(this, { sounds: [], chosen: 0, position: 0 });
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

  pause() {
    if (this.nodes) this.toggle();
  }

  async listen() {
    this.control?.abort();
    this.silence();
    const control = (this.control = new AbortController());
    alertIn(byId("codec-alert"), "");
    this.stage.hidden = true;
    for (const { link } of this.sounds) URL.revokeObjectURL(link);
    Object.assign(this, { sounds: [], position: 0, chosen: 0 });
    this.tell("Asking the studio …", null);
    try {
      this.table = await tables();
      for await (const [about, payload] of frames(await ask("studio/comparisons", { ...this.box.values(), weights: this.weights.value }, control.signal))) {
        if (this.control !== control) return;
        if (about.error) throw new Error(about.error);
        if (about.progress) this.tell(`${about.progress} …`, about.share);
        else if (about.comparison) this.about = about.comparison;
        else if (about.sound) this.add(about.sound, payload);
        else this.show();
      }
    } catch (error) {
      if (control.signal.aborted) return;
      alertIn(byId("codec-alert"), inWords(error));
      this.tell("");
    }
  }

  tell(words, share) {
    byId("codec-status").textContent = words;
    byId("codec-waiting").hidden = share === undefined;
    if (share == null) byId("codec-waiting").removeAttribute("value");
    else byId("codec-waiting").value = share;
  }

  add(about, payload) {
    const cut = cutter(payload);
    const pcm = cut(Int16Array, this.about.samples);
    const spectrum = new Strip(about.bands, null, true);
    spectrum.append(cut(Uint8Array, about.columns * about.bands), this.table.sound);
    let codes = null;
    if (about.codes) {
      codes = new Codes(about, about.column);
      codes.append(cut(Uint16Array, about.codes), this.table.codes);
    }
    const buffer = clock(this.about.rate).createBuffer(1, pcm.length, this.about.rate);
    const channel = buffer.getChannelData(0);
    for (let i = 0; i < channel.length; i++) channel[i] = pcm[i] / 32768;
    this.sounds.push({ ...about, buffer, spectrum, codes, link: URL.createObjectURL(wav([pcm], this.about.rate)) });
  }

  show() {
    const title = (sound) => (sound.level ? `${sound.level}x` : "Original");
    const figure = ({ figures }, [key, , digits]) => (!figures ? "" : figures[key] == null ? "–" : SHARES.includes(key) ? `${(100 * figures[key]).toFixed(0)} %` : figures[key].toFixed(digits));
    this.tell(`${this.about.name}: ${(this.about.samples / this.about.rate).toFixed(1)} s${this.several ? `, through the codecs of ${this.about.weights}` : ""}`);
    this.stage.hidden = false;
    this.picks = this.sounds.map((sound, i) => button(title(sound), () => this.choose(i), { "aria-pressed": "false" }));
    const canvas = (label) => element("canvas", { role: "img", "aria-label": label });
    this.canvases = this.sounds.map((sound) => [canvas(`Notes: ${title(sound)}`), canvas(`Codes: ${title(sound)}`)]);
    this.sounds.forEach(({ codes }, i) => codes && (this.canvases[i][1].style.height = `${codes.books > 1 ? codes.high(96) : 32}px`));
    this.stage.replaceChildren(
      element("div", { class: "bar" },
        (this.playButton = button("Pause", () => this.toggle(), { class: "main", id: "codec-play" })),
        element("div", { class: "picks", role: "group", "aria-label": "What is heard" }, ...this.picks),
        (this.place = element("input", { type: "range", id: "codec-place", min: 0, max: this.length, step: 0.1, value: 0, "aria-label": "Where it is heard, in seconds", oninput: () => this.choose(this.chosen, Number(this.place.value)) })),
        (this.clockText = element("span", { class: "time" }))),
      element("div", { class: "lanes" }, ...this.sounds.map((sound, i) => {
        const [spectrum, codes] = this.canvases[i];
        const words = sound.level ? ` ${verdict(sound.figures)}` : ` 16 bit, ${((this.about.rate * 16) / 1000).toFixed(0)} kbit/s`;
        for (const one of [spectrum, codes]) one.addEventListener("click", (event) => this.choose(i, (event.offsetX / one.clientWidth) * this.length));
        return element("figure", { class: "lane compared" }, element("figcaption", {}, element("span", {}, element("b", {}, title(sound)), words)), spectrum, sound.codes ? codes : null);
      })),
      element("p", { class: "faint" }, `Click on a picture to hear that version from there.${this.sounds.some(({ codes }) => codes) ? " The strip under it shows its codes." : ""}`),
      element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Figures" }, element("table", {},
        element("thead", {}, element("tr", {}, element("th", { scope: "col" }, "Level"), element("th", { scope: "col", class: "words" }, "In words"), ...FIGURES.map(([, name, , why]) => element("th", { scope: "col", title: why }, name)), element("th", { scope: "col" }, "File"))),
        element("tbody", {}, ...this.sounds.map((sound) => element("tr", {}, element("th", { scope: "row" }, title(sound)), element("td", { class: "words" }, sound.figures ? verdict(sound.figures) : ""),
          ...FIGURES.map((one) => element("td", {}, figure(sound, one))),
          element("td", {}, element("a", { class: "button small", href: sound.link, download: `${sound.name}.wav`, "aria-label": `Download ${title(sound)} as wav` }, "wav"))))))),
    );
    this.choose(0);
    this.toggle();
    this.dirty = true;
  }

  get length() {
    return this.about.samples / this.about.rate;
  }

  get now() {
    return this.base == null ? this.position : Math.min(this.length, this.position + Math.max(0, audio.currentTime - this.base));
  }

  /** All sounds play together; only one has a gain. */
  choose(i, from) {
    this.chosen = i;
    this.picks.forEach((pick, k) => pick.setAttribute("aria-pressed", String(k === i)));
    this.gains?.forEach((gain, k) => gain.gain.setTargetAtTime(k === i ? 1 : 0, audio.currentTime, 0.01));
    if (from !== undefined) {
      this.silence();
      this.position = from;
      this.toggle();
    }
    this.dirty = true;
  }

  toggle() {
    if (this.nodes) {
      this.position = this.now >= this.length ? 0 : this.now;
      this.silence();
    } else {
      claim(this);
      const context = clock(this.about.rate);
      context.resume();
      if (this.position >= this.length - 0.05) this.position = 0;
      this.base = context.currentTime + 0.05;
      this.gains = [];
      this.nodes = this.sounds.map(({ buffer }, i) => {
        const [node, gain] = [context.createBufferSource(), context.createGain()];
        node.buffer = buffer;
        gain.gain.value = i === this.chosen ? 1 : 0;
        node.connect(gain).connect(context.volume);
        node.start(this.base, this.position);
        this.gains.push(gain);
        return node;
      });
      this.nodes[0].onended = () => {
        this.position = 0;
        this.silence();
      };
    }
    this.dirty = true;
  }

  silence() {
    for (const node of this.nodes ?? []) {
      node.onended = null;
      node.stop();
    }
    this.nodes = this.gains = this.base = null;
    this.dirty = true;
  }

  draw() {
    if (!this.canvases?.[0]?.[0].clientWidth || (!this.dirty && !this.nodes)) return;
    this.dirty = false;
    this.playButton.textContent = this.nodes ? "Pause" : "Play";
    this.place.value = this.now;
    this.place.setAttribute("aria-valuetext", `${time(this.now)} of ${time(this.length)}`);
    this.clockText.textContent = `${time(this.now)} / ${time(this.length)}`;
    const scale = window.devicePixelRatio || 1;
    this.sounds.forEach((sound, i) => {
      [sound.spectrum, sound.codes].forEach((strip, k) => {
        if (!strip) return;
        const [context, width, height] = fitted(this.canvases[i][k]);
        context.imageSmoothingEnabled = !k;
        strip.draw(context, height, 0, width / (this.about.samples / (strip.each ?? sound.column)), width);
        if (!k) drawOctaves(context, sound, width, height, scale);
        drawPlayhead(context, Math.round((this.now / this.length) * width), 0, height, i === this.chosen && !k);
      });
    });
  }
}
