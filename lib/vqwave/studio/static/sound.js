// Sound, scheduled ahead on the clock of the audio device, so that blocks join without a gap.

import { recall } from "./dom.js";

export const WHOLE = 600; // seconds that the page keeps: a shorter take is read at once and can be replayed from anywhere
export const SCHEDULED = 2; // seconds of sound handed to the audio device ahead
const START = 0.5; // seconds that must arrive before the sound begins; doubled after each gap
const MOST = 8;
const FAINT = -48; // dB at the left end of the level meter
export const MUTE = 3000; // milliseconds after which the page reports that no sound begins

export let audio = null;
export const volume = () => Number(recall("vqwave.volume", 0.9));

let sounding = null;

/** Only one source sounds at a time: pause the source that sounded before. */
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
    audio.meter = audio.createAnalyser();
    audio.volume.connect(audio.meter);
    window.vqwave.audio = audio;
  }
  return audio;
}

/** The peak of the last milliseconds, from 0 (`FAINT` dB or less) to 1 (0 dB). */
export function loudness() {
  if (!audio) return 0;
  const samples = new Float32Array(audio.meter.fftSize);
  audio.meter.getFloatTimeDomainData(samples);
  const peak = samples.reduce((most, x) => Math.max(most, Math.abs(x)), 1e-9);
  return Math.max(0, 1 - (20 * Math.log10(peak)) / FAINT);
}

// Browsers allow sound only after a click or a key; the first block may come too late after it.
export function wake(rate) {
  for (const event of ["click", "keydown"]) document.addEventListener(event, () => audio?.state !== "running" && clock(rate).resume(), { capture: true });
}

/** Blocks in order, played as they come. Positions are samples of the piece. */
export class Sound {
  constructor(rate) {
    this.rate = rate;
    this.context = clock(rate);
    this.blocks = []; // {start, pcm}; the oldest are forgotten
    this.end = 0; // samples that have arrived
    this.from = 0; // the position of the next block to hand to the device
    this.base = null; // [position, device time] at which the sound began
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

  /** The samples from `begin` to `end` that are still here, in parts. */
  samples(begin, end) {
    return this.blocks.map(({ start, pcm }) => pcm.subarray(Math.max(0, begin - start), Math.max(0, end - start)));
  }

  get playing() {
    return this.base !== null;
  }

  /** The sample that is heard now. */
  get position() {
    if (!this.base) return this.from;
    const [position, at] = this.base;
    return Math.max(position, Math.min(this.from, position + (this.context.currentTime - at) * this.rate));
  }

  /** Whether the device's clock stands still: no device, or the browser blocks it. */
  get mute() {
    return this.base !== null && performance.now() - this.began > MUTE && this.context.currentTime < this.base[1];
  }

  get over() {
    return this.finished && this.position >= this.end;
  }

  tick() {
    if (this.paused || !this.context) return;
    if (!this.base) {
      if (!this.ready) return;
      // At a whole sample of the device, so that no block is interpolated.
      this.base = [this.from, Math.ceil((this.context.currentTime + 0.08) * this.rate) / this.rate];
      this.began = performance.now();
    } else if (this.due < this.context.currentTime && !(this.finished && this.from >= this.end)) {
      this.starve();
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

  /** Whether enough has arrived for the sound to begin. */
  get ready() {
    const waiting = this.end - this.from;
    if (!waiting || (waiting < this.need * this.rate && !this.finished)) return false;
    if (this.context.state === "suspended") this.context.resume();
    return true;
  }

  /** The device ran out of samples. One longer pause is better than many short pauses. */
  starve() {
    this.gaps += 1;
    this.need = Math.min(2 * this.need, MOST);
    this.base = null;
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
    this.context = clock(this.rate); // a new clock where a source of another rate has sounded meanwhile
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

/** 16 bit samples as a wav file. */
export function wav(parts, rate) {
  const bytes = parts.reduce((sum, part) => sum + part.byteLength, 0);
  const head = new DataView(new ArrayBuffer(44));
  const text = (at, word) => [...word].forEach((letter, i) => head.setUint8(at + i, letter.charCodeAt(0)));
  text(0, "RIFF");
  head.setUint32(4, 36 + bytes, true);
  text(8, "WAVEfmt ");
  head.setUint32(16, 16, true);
  head.setUint16(20, 1, true);
  head.setUint16(22, 1, true);
  head.setUint32(24, rate, true);
  head.setUint32(28, 2 * rate, true);
  head.setUint16(32, 2, true);
  head.setUint16(34, 16, true);
  text(36, "data");
  head.setUint32(40, bytes, true);
  return new Blob([head, ...parts], { type: "audio/wav" });
}
