// One level of the chain (`play/level.py`), for one piece.

import { Tensor } from "./ort.js";
import { uniforms } from "./philox.js";

export const sum = (values) => values.reduce((total, x) => total + x, 0);
export const clip = (x, least, most) => Math.min(Math.max(x, least), most);

/** A generator at work, and its frames of codes at positions first … stop − 1. model: its entry in site.json with its
 *  graphs open. source: the level above, or null. score: the level of the score that it performs, or null. */
export class Level {
  constructor(model, about, seed, steering, { source = null, score = null, label = [], sampling = model.sampling } = {}) {
    Object.assign(this, { model, about, seed, steering, source, score, sampling, level: model.level, books: model.books });
    Object.assign(this, { first: 0, frames: [], bits: [], loop: null });
    this.perBlock = about.block / model.level;
    this.group = source ? Math.ceil(Math.min(about.least_source, Math.max(1, Math.round((about.ahead * about.rate) / source.level))) / source.perBlock) : 1; // blocks that share a run of the context model
    if (model.labels) this.passToLabel(label, 0);
    this.previous = new Int32Array(this.books).fill(model.start);
    this.memory = model.states.map(([, shape]) => new Tensor(new Float32Array(shape.reduce((a, b) => a * b, 1)), [1, ...shape]));
  }

  get stop() { return this.first + this.frames.length; }
  get blocks() { return Math.floor(this.stop / this.perBlock); }
  async fill(stop) { while (this.stop < stop) await this.sample(await this.context(this.blocks)); }

  /** The codes at positions begin … end − 1, one frame after the other; `pad` stands outside the piece. */
  window(begin, end, pad = 0) {
    const codes = new Int32Array((end - begin) * this.books).fill(pad);
    for (let at = begin; at < end; at++) codes.set(this.frames[at - this.first] ?? [], (at - begin) * this.books);
    return codes;
  }

  trim(position) { this.first += this.frames.splice(0, Math.max(0, position - this.first)).length; }

  /** Pass into other shares of labels over the next frames (`play/labels.py`). */
  passToLabel(after, frames) {
    const before = this.labels ? this.shares(this.stop - 1) : after;
    this.labels = { before, after, begin: this.stop, end: this.stop + frames };
  }

  /** The share of each label in a frame, the last that of none. */
  shares(frame) {
    const { before, after, begin, end } = this.labels;
    const passed = frame >= end ? 1 : clip((frame - begin + 1) / (end - begin), 0, 1);
    return after.map((share, i) => before[i] * (1 - passed) + share * passed);
  }

  /** The context of a block, with time first; null without conditions. The level above is sampled up to there. */
  async context(block) {
    const { conditions, graphs } = this.model;
    if (!conditions.length) return null;
    const [group, row] = [Math.floor(block / this.group), block % this.group];
    if (this.cached?.group !== group || this.cached.labels !== this.labels) {
      const count = this.group * this.perBlock;
      const inputs = {};
      for (const condition of conditions) inputs[condition.input] = await this[`${condition.kind}Input`](condition, group * count, count);
      const { data, dims } = Object.values(await graphs.context.run(inputs))[0];
      this.cached = { group, labels: this.labels, data, size: this.perBlock * dims[2] };
    }
    const { data, size } = this.cached;
    return Float32Array.from({ length: size }, (_, i) => data[(row * size + i) % data.length]); // labels alone give one row for all
  }

  async codesInput({ ratio, halo, num_codes: pad }, start, count) {
    const [begin, end] = [Math.floor(start / ratio) - halo, Math.floor((start + count) / ratio) + halo];
    await this.source.fill(end);
    return new Tensor(this.source.window(begin, end, pad), [1, end - begin, this.source.books]);
  }

  async labelsInput(condition, start, count) {
    const rows = Array.from({ length: count }, (_, i) => this.shares(start + i));
    const numbers = [...rows[0].keys()].filter((i) => rows.some((row) => row[i]));
    const pairs = rows.flatMap((row) => numbers.flatMap((i) => [i, Math.round(row[i] * this.model.labels.whole)]));
    return new Tensor(Int32Array.from(pairs), [1, count, numbers.length, 2]);
  }

  async scoreInput({ halo, books, width, no_score }, start, count) {
    const rows = count + 2 * halo;
    const silence = () => Int32Array.from({ length: rows * width }, (_, i) => (i % width === books ? no_score : 0));
    const values = await this.score?.inFrames((start - halo) * this.level, rows, this.level);
    return new Tensor(values ?? silence(), [1, rows, width]);
  }

  /** The draws of steps from `start` on, frame after frame. offset: added to the numbers of the books. */
  draws(start, count, offset = 0) {
    const books = Array.from({ length: this.books }, (_, book) => uniforms(this.seed, 0, this.level, start, count, offset + book));
    return Float32Array.from({ length: count * this.books }, (_, i) => books[i % this.books][Math.floor(i / this.books)]);
  }

  /** Run the loop over as many frames as there are draws: [frames, the log-probability of all]. */
  async run(draws, context, forced = null, bias = null) {
    const { books, model, memory } = this;
    const { temperature, top_k, top_p } = model.nearest ? { temperature: 1 / model.nearest, top_k: 0, top_p: 1 } : this.sampling;
    if (model.nearest) draws = draws.map((u) => 0.5 + Math.min(this.sampling.temperature, 1) * (u - 0.5)); // a performer's noise
    const steps = [draws.length / books, 1, books];
    const out = await model.graphs.loop.run({
      uniforms: new Tensor(draws, steps),
      previous: new Tensor(this.previous, [1, books]),
      inverse_temperature: new Tensor(Float32Array.of(1 / (temperature || 1)), []),
      forced: new Tensor(forced ?? new Int32Array(draws.length).fill(-1), steps),
      top_k: new Tensor(BigInt64Array.of(BigInt(temperature ? top_k : 1)), []),
      top_p: new Tensor(Float32Array.of(temperature ? top_p : 1), []),
      bias: new Tensor(bias ?? new Float32Array(books * model.num_codes), [books, model.num_codes]),
      ...(context && { context: new Tensor(context, [steps[0], 1, context.length / steps[0]]) }),
      ...Object.fromEntries(model.states.map(([name], i) => [name, memory[i]])),
    });
    this.memory = model.states.map(([name]) => out[`${name}_out`]);
    const frames = Array.from({ length: steps[0] }, (_, i) => out.codes.data.slice(i * books, (i + 1) * books));
    this.previous = frames.at(-1);
    return [frames, sum(out.log_probs.data)];
  }

  /** Sample one block. The codes of a frozen loop stand in their places. */
  async sample(context) {
    const { loop, stop: start, books, perBlock } = this;
    const places = loop && Array.from({ length: perBlock }, (_, i) => (start - this.loopStart + i) % loop.length);
    const forced = loop && Int32Array.from(places.flatMap((place) => [...loop[place]]));
    // Book number `books` has the draws that no code takes.
    const drawn = forced ? uniforms(this.seed, 0, this.level, start, perBlock, books) : [];
    drawn.forEach((u, i) => u < this.steering.mutate && forced.fill(-1, i * books, (i + 1) * books));
    const [block, score] = await this.run(this.draws(start, perBlock), context, forced, this.bias());
    this.frames.push(...block);
    this.bits.push(-score / perBlock / Math.LN2);
    places?.forEach((place, i) => (loop[place] = block[i]));
  }

  /** What held notes add to the logits, as `play/pitches.py` says; null without notes. */
  bias() {
    const { pitches } = this.model.tables;
    const { notes, pull } = this.steering;
    const held = [...new Set(notes.map((note) => note % 12))];
    if (!pitches || !held.length || !pull || held.length === 12) return null;
    const [even, floor] = [held.length / 12, this.about.pitch_floor];
    return Float32Array.from({ length: pitches.length / 12 }, (_, i) => {
      const powers = pitches.subarray(12 * i, 12 * i + 12);
      const share = (sum(held.map((k) => powers[k])) + floor * even) / (sum(powers) + floor) - even;
      return (pull * share) / (1 - even);
    });
  }

  freeze(frames) { [this.loop, this.loopStart] = [frames ? this.frames.slice(-frames) : null, this.stop]; }
}
