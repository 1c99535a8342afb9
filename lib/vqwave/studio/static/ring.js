// A ring buffer between the page and the audio device: a busy page or a tab in the background makes no gaps.
// In: {pcm}, 16-bit samples; {clear}; {close}. Out: {at}, when it began to sound; {dry}, when samples ran out.

const SIZE = 1 << 18; // samples; a power of 2
const EVERY = 16; // blocks of the device between two messages that wake a page in the background, whose timers are slow

export class Ring {
  constructor(port) {
    Object.assign(this, { port, samples: new Float32Array(SIZE), read: 0, written: 0, sounding: false, blocks: 0 });
    port.onmessage = ({ data }) => this.hear(data);
  }

  hear({ pcm, clear, close }) {
    if (clear) [this.read, this.written, this.sounding] = [0, 0, false];
    for (const sample of pcm ?? []) this.samples[this.written++ % SIZE] = sample / 32768;
    this.closed = close;
  }

  /** Fill a block of silence, which the device plays at second `at`. */
  fill(out, at) {
    const count = Math.min(out.length, this.written - this.read);
    for (let i = 0; i < count; i++) out[i] = this.samples[this.read++ % SIZE];
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
