// A ring buffer on the audio thread. In: {pcm}, {go}, {clear}. Out: {at}, when it began to sound; {dry}, when samples ran out.

const SIZE = 1 << 18; // samples; a power of 2
const EVERY = 16; // blocks of the device between two messages

registerProcessor("ring", class extends AudioWorkletProcessor {
  constructor() {
    super();
    Object.assign(this, { ring: new Float32Array(SIZE), read: 0, written: 0, going: false, blocks: 0 });
    this.port.onmessage = ({ data: { pcm, go, clear } }) => {
      if (clear) [this.read, this.written, this.going] = [0, 0, false];
      for (const sample of pcm ?? []) this.ring[this.written++ % SIZE] = sample / 32768;
      if (go) this.going = "first";
    };
  }

  process(inputs, [[out]]) {
    if (!this.going) return true;
    if (this.going === "first") this.port.postMessage({ at: currentTime });
    const count = Math.min(out.length, this.written - this.read);
    for (let i = 0; i < count; i++) out[i] = this.ring[this.read++ % SIZE];
    this.going = count === out.length;
    if (!this.going) this.port.postMessage({ dry: true });
    else if (!(this.blocks++ % EVERY)) this.port.postMessage({}); // wakes a page in the background, whose timers are slow
    return true;
  }
});
