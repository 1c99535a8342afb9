// Sounds that play together; one of them is heard. Switching leaves no gap.

import { button, element, time } from "./dom.js";
import { audio, claim, clock } from "./sound.js";

export class Together {
  sounds = []; // {buffer, …}, all of one rate
  chosen = 0;
  position = 0; // seconds: where it stands, or where it began to play
  base = null; // the device's time at which it began
  nodes = null; // of the sounds that play: [source, gain]

  /** The bar above the sounds, with `picks` to choose one of them. */
  bar(label, play, ...picks) {
    this.playButton = button(play, () => this.toggle(), { class: "main" });
    this.pickBox = element("div", { class: "picks", role: "group", "aria-label": label }, ...picks);
    this.place = element("input", { type: "range", min: 0, max: this.length, step: 0.1, value: 0, "aria-label": "Position, in seconds", oninput: () => this.choose(this.chosen, Number(this.place.value)) });
    this.clockText = element("span", { class: "time" });
    return element("div", { class: "bar" }, this.playButton, this.pickBox, this.place, this.clockText);
  }

  showTime() {
    this.playButton.textContent = this.nodes ? "Pause" : "Play";
    this.place.value = this.now;
    this.place.setAttribute("aria-valuetext", `${time(this.now)} of ${time(this.length)}`);
    this.clockText.textContent = `${time(this.now)} / ${time(this.length)}`;
  }

  get length() { return Math.max(...this.sounds.map(({ buffer }) => buffer.duration)); }
  get now() { return this.base == null ? this.position : Math.min(this.length, this.position + Math.max(0, audio.currentTime - this.base)); }

  /** Add a sound; it joins the others where they are. */
  put(sound) {
    this.sounds.push(sound);
    if (this.nodes) this.start(sound, this.nodes.length);
    this.dirty = true;
  }

  start({ buffer }, i) {
    const context = clock(buffer.sampleRate);
    const [node, gain] = [context.createBufferSource(), context.createGain()];
    node.buffer = buffer;
    gain.gain.value = i === this.chosen ? 1 : 0;
    node.connect(gain).connect(context.volume);
    const late = Math.max(0, context.currentTime + 0.05 - this.base);
    node.start(this.base + late, this.position + late);
    node.onended = () => this.now >= this.length - 0.05 && this.rewind();
    this.nodes.push([node, gain.gain]);
  }

  /** Hear sound `i`, from second `from` if that is given. */
  choose(i, from) {
    this.chosen = i;
    this.nodes?.forEach(([, gain], k) => gain.setTargetAtTime(k === i ? 1 : 0, audio.currentTime, 0.01));
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
      return this.silence();
    }
    claim(this);
    const context = clock(this.sounds[0].buffer.sampleRate);
    context.resume();
    if (this.position >= this.length - 0.05) this.position = 0;
    this.base = context.currentTime + 0.05;
    this.nodes = [];
    this.sounds.forEach((sound, i) => this.start(sound, i));
    this.dirty = true;
  }

  pause() { if (this.nodes) this.toggle(); }

  rewind() {
    this.silence();
    this.position = 0;
  }

  silence() {
    for (const [node] of this.nodes ?? []) {
      node.onended = null;
      node.stop();
    }
    this.nodes = this.base = null;
    this.dirty = true;
  }
}
