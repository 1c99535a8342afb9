// Sound, handed to the audio device ahead, so that blocks join without a gap.

import { recall } from "./dom.js";
import { Ring } from "./ring.js";

export const WHOLE = 600; // seconds that the page keeps: a shorter take is read at once and can be replayed from anywhere
const SCHEDULED = 2; // seconds of sound handed to the audio device ahead
const START = 0.25; // seconds besides a block that must arrive before the sound begins
const [LEAST, MOST] = [0.06, 8]; // the range of that buffer, which is doubled after a gap
const SPARE = 0.04; // seconds that must be left in the buffer whenever a block arrives
const [CALM, QUIET] = [4, 60]; // seconds without a late block, and without a gap, after which the buffer shrinks
const CROSS_FADE = 0.5; // seconds from one take to the next
const FAINT = -48; // dB at the left end of the level meter
const MUTE = 3000; // milliseconds after which the page reports that no sound begins

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
    audio = new AudioContext({ sampleRate: rate, latencyHint: "interactive" });
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

/** What plays the samples of a ring buffer, whose messages go through its port. */
async function openRing(context) {
  if (context.audioWorklet) {
    await (context.ring ??= context.audioWorklet.addModule(new URL("ring.js", import.meta.url)));
    return new AudioWorkletNode(context, "ring", { numberOfInputs: 0, outputChannelCount: [1] });
  }
  // Over plain HTTP from another machine, browsers have no audio thread for pages.
  const [node, { port1, port2 }] = [context.createScriptProcessor(2048, 0, 1), new MessageChannel()];
  const ring = new Ring(port2);
  node.onaudioprocess = ({ outputBuffer, playbackTime }) => ring.fill(outputBuffer.getChannelData(0), playbackTime);
  node.port = port1;
  return node;
}

/** Blocks in order, played as they come. Positions are samples of the piece. */
export class Sound {
  /** block: seconds of a block. before: the sound that fades out when this one begins. */
  constructor(rate, block, before) {
    Object.assign(this, { rate, before, least: Infinity, calm: 0, raised: 0, early: [], finished: false, gaps: 0, paused: false }); // least: seconds that were left at an arrival since second `calm`
    this.blocks = []; // {start, pcm}; the oldest are forgotten
    this.end = 0; // samples that have arrived
    this.from = 0; // the position of the next sample to hand to the device
    this.base = null; // [position, device time] at which the sound began; Infinity: it is about to begin
    this.need = Math.min(START + block, before?.need ?? Infinity);
    this.loop = null; // [first sample, sample after the last] that repeat
    this.timer = setInterval(() => this.tick(), 50);
    this.open();
  }

  async open() {
    const context = (this.context = clock(this.rate));
    this.node = null;
    const node = await openRing(context);
    if (this.closed || context !== this.context) return node.port.postMessage({ close: true });
    this.node = node;
    node.port.onmessage = ({ data }) => this.hear(data);
    for (const message of this.early.splice(0)) this.post(message);
    this.out = context.createGain();
    node.connect(this.out).connect(context.volume);
    this.tick();
  }

  /** Keep the buffer as short as the delays of the blocks allow. */
  adapt() {
    const now = this.context.currentTime;
    this.least = Math.min(this.least, (this.end - this.position) / this.rate);
    if (this.least < SPARE && now > this.raised + 0.3) [this.need, this.raised] = [Math.min(this.need + SPARE, MOST), now];
    else if (now < this.calm + CALM) return;
    else this.need = Math.max(LEAST, this.need - Math.max(0, this.least - 2 * SPARE) / 2);
    [this.least, this.calm] = [Infinity, Math.max(this.calm, now)];
  }

  /** Let the music have a gain from now on. The samples from `sample` on will have it already, after a ramp. */
  setGain(gain) { this.post({ gain }); }
  expectGain(sample, gain, ramp) { this.post({ sample, gain, ramp }); }

  post(message) {
    if (this.node) this.node.port.postMessage(message);
    else this.early.push(message);
  }

  push(pcm) {
    if (this.playing && !this.finished && !this.loop) this.adapt();
    this.blocks.push({ start: this.end, pcm });
    this.end += pcm.length;
    while (this.end - this.blocks[0].start > WHOLE * this.rate && this.blocks[0].start + pcm.length < this.position) this.blocks.shift();
    this.tick();
  }

  /** The samples from `begin` to `end` that are still here, in parts. */
  samples(begin, end) { return this.blocks.map(({ start, pcm }) => pcm.subarray(Math.max(0, begin - start), Math.max(0, end - start))); }
  get playing() { return this.base !== null; }

  get position() {
    if (!this.base) return this.from;
    return this.wrap(this.base[0] + Math.min(this.passed, this.handed));
  }

  /** Samples that the device has had time for since the sound began. */
  get passed() { return Math.max(0, (this.context.currentTime - this.base[1]) * this.rate); }

  /** The sample at a position, in a loop. */
  wrap(position) {
    const [first, end] = this.loop ?? [0, Infinity];
    return position < end ? position : first + ((position - first) % (end - first));
  }

  /** Repeat some samples; null: go on from here. */
  repeat(loop) {
    const { position } = this;
    this.loop = loop;
    this.seek(loop ? loop[0] : position);
  }

  /** Whether no sound begins: there is no device, or the browser blocks it. */
  get mute() { return this.base?.[1] === Infinity && performance.now() - this.began > MUTE; }
  get over() { return this.finished && this.position >= this.end; }

  tick() {
    const waiting = this.end - this.from;
    if (this.paused || !this.node || !waiting) return;
    if (!this.base) {
      if (waiting < this.need * this.rate && !this.finished) return;
      if (this.context.state === "suspended") this.context.resume();
      this.begin();
    }
    while (this.from < this.end && this.handed < this.passed + SCHEDULED * this.rate) {
      const { start, pcm } = this.blocks.find(({ start, pcm }) => start + pcm.length > this.from);
      const part = pcm.slice(this.from - start, this.loop ? this.loop[1] - start : undefined);
      this.node.port.postMessage({ pcm: part, position: this.from });
      this.handed += part.length;
      this.from = this.wrap(this.from + part.length);
    }
  }

  begin() {
    [this.base, this.handed, this.began, this.least] = [[this.from, Infinity], 0, performance.now(), Infinity];
    if (this.before?.playing) {
      this.before.fadeOut();
      const { gain } = this.out;
      gain.setValueAtTime(0, this.context.currentTime);
      gain.linearRampToValueAtTime(1, this.context.currentTime + CROSS_FADE);
      sounding = null;
    } else this.before?.close();
    this.before = null;
    claim(this);
  }

  fadeOut() {
    this.out.gain.setTargetAtTime(0, this.context.currentTime, CROSS_FADE / 4);
    setTimeout(() => this.close(), 2000 * CROSS_FADE);
  }

  /** A message of the ring. When samples run out, one longer pause is better than many short pauses. */
  hear({ at, dry }) {
    if (this.base && at !== undefined) this.base[1] = at;
    if (this.base && dry && !(this.finished && this.from >= this.end)) {
      this.gaps += 1;
      this.need = Math.min(2 * this.need, MOST);
      this.calm = this.context.currentTime + QUIET;
      this.base = null;
    }
    this.tick();
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
    if (this.context !== clock(this.rate)) this.open(); // a source of another rate has sounded meanwhile
    this.context.resume();
    if (this.over) this.seek(this.blocks[0]?.start ?? 0);
    this.tick();
  }

  silence() {
    this.node?.port.postMessage({ clear: true });
    this.base = null;
  }

  close() {
    this.before?.close();
    this.silence();
    this.closed = true;
    this.node?.port.postMessage({ close: true });
    this.out?.disconnect();
    clearInterval(this.timer);
  }
}

export function wav(parts, rate) {
  const bytes = parts.reduce((sum, part) => sum + part.byteLength, 0);
  const word = (letters) => [...letters].reduceRight((number, letter) => 256 * number + letter.charCodeAt(0), 0);
  // 0x10001 is one channel of whole numbers; 0x100002 is 16 bits in 2 bytes.
  const head = [word("RIFF"), 36 + bytes, word("WAVE"), word("fmt "), 16, 0x10001, rate, 2 * rate, 0x100002, word("data"), bytes];
  return new Blob([Uint32Array.from(head), ...parts], { type: "audio/wav" });
}
