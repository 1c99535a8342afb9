// Sound, scheduled on the clock of the audio device ahead of what is heard, so that blocks join without a gap.

import { recall } from "./dom.js";

export const WHOLE = 600; // seconds that are kept: a take up to this long is read at once and can be heard again from anywhere
const SCHEDULED = 2; // seconds of sound handed to the audio device ahead
const START = 0.5; // seconds that must be there before it begins; twice as many each time that they were not enough
const MOST = 8;
const MUTE = 3000; // milliseconds after which sound that did not begin is said not to

export let audio = null;
export const volume = () => Number(recall("vqwave.volume", 0.9));

let sounding = null;

/** One thing sounds at a time: what has a `pause` and sounded before is paused. */
export function claim(source) {
  if (sounding && sounding !== source) sounding.pause();
  sounding = source;
}

/** The page's one audio clock, at the rate of the music, so that blocks join to the sample. */
export function clock(rate) {
  if (!audio || audio.sampleRate !== rate) {
    audio?.close();
    audio = new AudioContext({ sampleRate: rate, latencyHint: "playback" });
    audio.volume = audio.createGain();
    audio.volume.gain.value = volume();
    audio.volume.connect(audio.destination);
    window.vqwave.audio = audio;
  }
  return audio;
}

// A browser lets a page sound once it has been touched; what is made may be ready too long after that touch.
export function wake(rate) {
  for (const event of ["click", "keydown"]) document.addEventListener(event, () => audio?.state !== "running" && clock(rate).resume(), { capture: true });
}

/** Blocks in order, played as they come. Positions are samples of the piece. */
export class Sound {
  constructor(rate) {
    this.rate = rate;
    this.context = clock(rate);
    this.blocks = []; // {start, pcm}; the oldest are let go
    this.end = 0; // samples there are
    this.from = 0; // the position of the next block to hand to the device
    this.base = null; // [position, device time] of which one began
    this.nodes = [];
    this.finished = false;
    this.gaps = 0;
    this.need = START;
    this.paused = false;
    this.timer = setInterval(() => this.tick(), 50);
    claim(this);
  }

  push(pcm) {
    this.blocks.push({ start: this.end, pcm });
    this.end += pcm.length;
    while (this.end - this.blocks[0].start > WHOLE * this.rate && this.blocks[0].start + pcm.length < this.position) this.blocks.shift();
    this.tick();
  }

  get playing() {
    return this.base !== null;
  }

  /** What is heard now. */
  get position() {
    if (!this.base) return this.from;
    const [position, at] = this.base;
    return Math.max(position, Math.min(this.from, position + (this.context.currentTime - at) * this.rate));
  }

  /** Whether the device's clock stands still: there is none, or the browser keeps it. */
  get mute() {
    return this.base !== null && performance.now() - this.began > MUTE && this.context.currentTime < this.base[1];
  }

  get over() {
    return this.finished && this.position >= this.end;
  }

  tick() {
    if (this.paused || !this.context) return;
    if (!this.base) {
      const there = this.end - this.from;
      if (!there || (there < this.need * this.rate && !this.finished)) return;
      if (this.context.state === "suspended") this.context.resume();
      // On a whole sample of the device, so that no block is interpolated.
      this.base = [this.from, Math.ceil((this.context.currentTime + 0.08) * this.rate) / this.rate];
      this.began = performance.now();
    } else if (this.due < this.context.currentTime && !(this.finished && this.from >= this.end)) {
      // The device has run dry. Rather one longer wait than many short ones.
      this.gaps += 1;
      this.need = Math.min(2 * this.need, MOST);
      this.base = null;
      return;
    }
    while (this.from < this.end && this.due < this.context.currentTime + SCHEDULED) {
      const block = this.blocks.find(({ start, pcm }) => start + pcm.length > this.from);
      const buffer = this.context.createBuffer(1, block.pcm.length, this.rate);
      const channel = buffer.getChannelData(0);
      for (let i = 0; i < channel.length; i++) channel[i] = block.pcm[i] / 32768;
      const node = this.context.createBufferSource();
      node.buffer = buffer;
      node.connect(this.context.volume);
      node.start(this.due, (this.from - block.start) / this.rate);
      node.onended = () => this.nodes.splice(this.nodes.indexOf(node), 1);
      this.nodes.push(node);
      this.from = block.start + block.pcm.length;
    }
  }

  /** When the next block must begin to sound. */
  get due() {
    return this.base[1] + (this.from - this.base[0]) / this.rate;
  }

  seek(position) {
    const first = this.blocks[0]?.start ?? 0;
    this.silence();
    this.from = Math.round(Math.min(Math.max(position, first), this.end));
    this.tick();
  }

  pause() {
    const position = this.position;
    this.silence();
    this.from = Math.round(position);
    this.paused = true;
  }

  resume() {
    claim(this);
    this.paused = false;
    this.context = clock(this.rate); // another one where something of another rate has sounded meanwhile
    this.context.resume();
    if (this.over) this.seek(this.blocks[0]?.start ?? 0);
    this.tick();
  }

  silence() {
    for (const node of this.nodes.splice(0)) {
      node.onended = null;
      node.stop();
    }
    this.base = null;
  }

  close() {
    this.silence();
    clearInterval(this.timer);
  }
}
