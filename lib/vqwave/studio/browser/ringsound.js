// Sound through a ring buffer on the audio thread: a busy page or a tab in the background makes no gaps.

import { MUTE, SCHEDULED, Sound } from "./sound.js";

export class RingSound extends Sound {
  constructor(rate) {
    super(rate);
    this.open();
  }

  async open() {
    const { context } = this;
    this.node?.disconnect();
    this.node = null;
    await (context.ring ??= context.audioWorklet.addModule(new URL("ring.js", import.meta.url)));
    if (this.closed || context !== this.context) return;
    this.node = new AudioWorkletNode(context, "ring", { numberOfInputs: 0, outputChannelCount: [1] });
    this.node.port.onmessage = ({ data: { at, dry } }) => {
      if (at !== undefined && this.base) this.base[1] = at;
      if (dry && this.base && this.from < this.end + 1 && !(this.finished && this.from >= this.end)) this.starve();
      this.tick();
    };
    this.node.connect(context.volume);
    this.tick();
  }

  get mute() {
    return this.base?.[1] === Infinity && performance.now() - this.began > MUTE;
  }

  tick() {
    if (this.paused || !this.node) return;
    const begins = !this.base;
    if (begins && !this.ready) return;
    if (begins) [this.base, this.began] = [[this.from, Infinity], performance.now()];
    while (this.from < this.end && this.from < this.position + SCHEDULED * this.rate) {
      const { start, pcm } = this.blocks.find(({ start, pcm }) => start + pcm.length > this.from);
      this.node.port.postMessage({ pcm: pcm.slice(this.from - start) });
      this.from = start + pcm.length;
    }
    if (begins) this.node.port.postMessage({ go: true });
  }

  resume() {
    const { context } = this;
    super.resume();
    if (this.context !== context) this.open();
  }

  silence() {
    this.node?.port.postMessage({ clear: true });
    this.base = null;
  }

  close() {
    super.close();
    this.closed = true;
    this.node?.disconnect();
  }
}
