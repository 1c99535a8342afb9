// The page of the codecs: an original and what each codec makes of it, side by side.

import { Part, element, time } from "./dom.js";
import { Strip, colours, fitted, ink, tables } from "./pictures.js";
import { audio, clock } from "./sound.js";
import { ask, cutter, frames } from "./wire.js";

const FIGURES = [
  ["bitrate_kbps", "kbit/s", 2, "bits that the codes take"], ["sc_db", "SC dB", 1, "spectral convergence: lower is nearer"],
  ["mel", "mel", 3, "distance of mel spectrograms: lower is nearer"], ["si_sdr_db", "SI-SDR dB", 1, "waveforms alike: higher is nearer; at coarse levels a codec can sound right and score badly"],
  ["usage", "codes used", 0, "share of the codebook"],
];

export class Codecs extends Part {
  build(append) {
    window.vqwave.codecs = this;
    this.sounds = [];
    this.chosen = 0;
    append(
      (this.alertBox = element("p", { class: "alert", role: "alert", hidden: true })),
      (this.empty = element("div", { class: "empty" }, element("h2", {}, "Hear what the codecs keep"),
        element("p", {}, "Drop in a recording and press “Listen”. It goes through each codec and back; switch between the original and the results while it plays, and compare their spectrograms, codes and figures."))),
      (this.status = element("p", { class: "status", role: "status" })),
      (this.waiting = element("progress", { max: 1, hidden: true })),
      (this.stage = element("section", { hidden: true, class: "stage" })),
    );
  }

  async listen(settings) {
    this.control?.abort();
    this.silence();
    const control = (this.control = new AbortController());
    this.alertBox.hidden = true;
    this.empty.hidden = true;
    this.stage.hidden = true;
    this.sounds = [];
    this.position = 0;
    this.chosen = 0;
    this.waiting.hidden = false;
    this.waiting.removeAttribute("value");
    this.status.textContent = "Asking the studio …";
    try {
      this.table = tables(await colours());
      for await (const [about, payload] of frames(await ask("studio/comparisons", settings, control.signal))) {
        if (about.error) throw new Error(about.error);
        if (about.progress) {
          this.status.textContent = `${about.progress} …`;
          if (about.share != null) this.waiting.value = about.share;
        } else if (about.comparison) this.heard = about.comparison;
        else if (about.sound) this.add(about.sound, payload);
        else this.show();
      }
    } catch (error) {
      if (control.signal.aborted) return;
      this.alertBox.textContent = error instanceof TypeError ? "The studio cannot be reached: is it still running?" : error.message;
      this.alertBox.hidden = false;
      this.empty.hidden = false;
      this.status.textContent = "";
    }
    if (this.control === control) this.waiting.hidden = true;
  }

  add(about, payload) {
    const cut = cutter(payload);
    const pcm = cut(Int16Array, this.heard.samples);
    const spectrum = new Strip(about.bands, "sound", null, true);
    spectrum.append(cut(Uint8Array, about.columns * about.bands), this.table.sound);
    let codes = null;
    if (about.codes) {
      codes = new Strip(about.column / about.level, "codes", Uint8Array.from(about.shades));
      codes.append(cut(Uint16Array, about.codes), this.table.codes);
    }
    const context = clock(this.heard.rate);
    const buffer = context.createBuffer(1, pcm.length, this.heard.rate);
    const channel = buffer.getChannelData(0);
    for (let i = 0; i < channel.length; i++) channel[i] = pcm[i] / 32768;
    this.sounds.push({ ...about, buffer, spectrum, codes });
  }

  show() {
    const title = (sound) => (sound.level ? `${sound.level}x` : "Original");
    this.status.textContent = `${this.heard.name}: ${(this.heard.samples / this.heard.rate).toFixed(1)} s`;
    this.stage.hidden = false;
    this.picks = this.sounds.map((sound, i) => element("button", { type: "button", "aria-pressed": "false", onclick: () => this.choose(i) }, title(sound)));
    this.canvases = this.sounds.map(() => [element("canvas", { role: "img", "aria-label": "Mel spectrogram" }), element("canvas", { role: "img", "aria-label": "Codes" })]);
    this.stage.replaceChildren(
      element("div", { class: "bar" },
        (this.playButton = element("button", { type: "button", class: "main", id: "codec-play", onclick: () => this.toggle() }, "Play")),
        element("div", { class: "picks", role: "group", "aria-label": "What is heard" }, ...this.picks),
        (this.clockText = element("span", { class: "time" }))),
      element("div", { class: "scroll" }, element("table", {},
        element("thead", {}, element("tr", {}, element("th", {}, "Level"), ...FIGURES.map(([, name, , why]) => element("th", { title: why }, name)), element("th", {}, ""))),
        element("tbody", {}, ...this.sounds.map((sound) => element("tr", {}, element("th", { scope: "row" }, title(sound)),
          ...FIGURES.map(([key, , digits]) => element("td", {}, sound.figures ? (key === "usage" ? `${(100 * sound.figures[key]).toFixed(0)} %` : sound.figures[key].toFixed(digits)) : "")),
          element("td", {}, element("a", { class: "button", href: `studio/comparisons/${this.heard.id}/${sound.name}.wav`, download: true }, "wav"))))))),
      element("p", { class: "faint" }, "SC and mel: lower is nearer to the original. SI-SDR: higher is nearer, but a coarse codec can sound right and score badly. Click on a picture to hear that sound from there."),
      element("div", { class: "lanes" }, ...this.sounds.map((sound, i) => {
        const [spectrum, codes] = this.canvases[i];
        const figure = element("figure", { class: "lane compared" }, element("figcaption", {}, element("span", {}, element("b", {}, title(sound)), sound.level ? ` ${sound.figures.bitrate_kbps.toFixed(2)} kbit/s, its codes beneath` : ` 16 bit, ${((this.heard.rate * 16) / 1000).toFixed(0)} kbit/s`)), spectrum, sound.codes ? codes : null);
        for (const canvas of [spectrum, codes]) canvas.addEventListener("click", (event) => this.choose(i, (event.offsetX / canvas.clientWidth) * this.length));
        return figure;
      })),
    );
    this.choose(0);
    this.dirty = true;
  }

  get length() {
    return this.heard.samples / this.heard.rate;
  }

  get now() {
    return this.base === undefined || this.base === null ? this.position : Math.min(this.length, this.position + Math.max(0, audio.currentTime - this.base));
  }

  /** All sounds run together; one is heard. */
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
      const context = clock(this.heard.rate);
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

  async recolour() {
    if (!this.sounds.length) return;
    this.table = tables(await colours());
    for (const { spectrum, codes } of this.sounds) {
      spectrum.repaint(this.table.sound);
      codes?.repaint(this.table.codes);
    }
    this.dirty = true;
  }

  draw() {
    if (!this.canvases?.[0][0].clientWidth || (!this.dirty && !this.nodes)) return;
    this.dirty = false;
    const colour = ink();
    this.playButton.textContent = this.nodes ? "Pause" : "Play";
    this.clockText.textContent = `${time(this.now)} of ${time(this.length)}`;
    const scale = window.devicePixelRatio || 1;
    this.sounds.forEach((sound, i) => {
      [sound.spectrum, sound.codes].forEach((strip, k) => {
        if (!strip) return;
        const [context, width, height] = fitted(this.canvases[i][k]);
        strip.draw(context, height, 0, width / (this.heard.samples / sound.column), width);
        const x = Math.round((this.now / this.length) * width);
        context.fillStyle = colour("paper");
        context.fillRect(x - 2 * scale, 0, 4 * scale, height);
        context.fillStyle = i === this.chosen ? colour("mark") : colour("faint");
        context.fillRect(x - scale, 0, 2 * scale, height);
      });
    });
  }
}
