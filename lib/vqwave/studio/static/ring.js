// A ring buffer between the page and the audio device: a busy page or a tab in the background makes no gaps.
// In: {pcm, position}, 16-bit samples from a position of the piece on; {clear}; {close}; {gain}, to be heard at once;
// {sample, gain, ramp}, a gain that the samples of the piece have from a sample on, after a ramp.
// Out: {at}, when it began to sound; {dry}, when samples ran out.

const SIZE = 1 << 18; // samples; a power of 2
const EVERY = 16; // blocks of the device between two messages that wake a page in the background, whose timers are slow
const FADE = 256; // samples that fade out where the sound is cut off
const SMOOTH = 0.02; // the share of the way to a new gain in one sample

export class Ring {
  constructor(port) {
    Object.assign(this, { port, samples: new Float32Array(SIZE), read: 0, written: 0, sounding: false, blocks: 0 });
    Object.assign(this, { offset: 0, wanted: 1, gain: 1, made: 1, changes: [], tail: [] });
    port.onmessage = ({ data }) => this.hear(data);
  }

  hear({ pcm, position, clear, close, gain, sample, ramp }) {
    if (clear) {
      this.tail = Array.from({ length: this.sounding ? Math.min(FADE, this.written - this.read) : 0 }, (_, i) => this.next() * (1 - i / FADE));
      [this.read, this.written, this.sounding] = [0, 0, false];
    }
    if (pcm) this.offset = position - this.written;
    for (const value of pcm ?? []) this.samples[this.written++ % SIZE] = value / 32768;
    if (sample !== undefined) this.changes.push({ sample, gain, ramp });
    else if (gain !== undefined) this.wanted = gain;
    this.closed = close;
  }

  /** The gain that a sample of the piece has already. */
  madeAt(position) {
    const { changes } = this;
    while (changes[0] && position >= changes[0].sample + changes[0].ramp) this.made = changes.shift().gain;
    const [change] = changes;
    if (!change || position < change.sample) return this.made;
    return this.made + (change.gain - this.made) * (0.5 - 0.5 * Math.cos((Math.PI * (position - change.sample + 0.5)) / change.ramp));
  }

  /** The next sample, with the gain that is wanted now. */
  next() {
    const made = this.madeAt(this.read + this.offset);
    if (this.gain !== this.wanted) this.gain = Math.abs(this.wanted - this.gain) < 1e-4 ? this.wanted : this.gain + SMOOTH * (this.wanted - this.gain);
    const sample = this.samples[this.read++ % SIZE];
    return made === this.gain ? sample : (sample * this.gain) / made;
  }

  /** Fill a block of silence, which the device plays at second `at`. */
  fill(out, at) {
    const count = Math.min(out.length, this.written - this.read);
    for (let i = 0; i < count; i++) out[i] = this.next();
    this.tail.splice(0, out.length).forEach((sample, i) => (out[i] += sample));
    if (count && !this.sounding) this.port.postMessage({ at });
    else if (this.sounding && count < out.length) this.port.postMessage({ dry: true });
    else if (this.sounding && !(this.blocks++ % EVERY)) this.port.postMessage({});
    this.sounding = count === out.length;
  }
}

globalThis.registerProcessor?.("ring", class extends AudioWorkletProcessor {
  ring = new Ring(this.port);

  process(inputs, [[out]]) {
    this.ring.fill(out, currentTime);
    return !this.ring.closed;
  }
});
