// One level of the chain (`play/level.py`, `play/opening.py`), for one piece.

import { uniforms } from "./philox.js";

const ort = () => globalThis.ort;
const KINDS = { Float32Array: "float32", Int32Array: "int32", BigInt64Array: "int64" };
export const tensor = (values, shape) => new (ort().Tensor)(KINDS[values.constructor.name], values, shape);
export const mean = (values) => values.reduce((sum, x) => sum + x, 0) / values.length;

/** Frames of codes at positions first … stop − 1, and the nats of each. */
export class Frames {
  constructor(books) {
    Object.assign(this, { books, first: 0, frames: [], nats: [] });
  }

  get stop() {
    return this.first + this.frames.length;
  }

  append(codes, scores) {
    for (let i = 0; i < codes.length; i += this.books) {
      this.frames.push(codes.slice(i, i + this.books));
      this.nats.push(-scores.slice(i, i + this.books).reduce((sum, x) => sum + x, 0));
    }
  }

  /** The codes at positions begin … end − 1, one frame after the other; `pad` stands outside the piece. */
  window(begin, end, pad) {
    const codes = new Int32Array((end - begin) * this.books).fill(pad);
    for (let at = Math.max(begin, this.first); at < Math.min(end, this.stop); at++) codes.set(this.frames[at - this.first], (at - begin) * this.books);
    return codes;
  }

  trim(position) {
    const count = Math.max(0, position - this.first);
    for (const values of [this.frames, this.nats]) values.splice(0, count);
    this.first += count;
  }
}

/** A mixture of labels: one passes into another over some frames (`play/labels.py`). */
class Labels {
  constructor({ names, whole }, label) {
    Object.assign(this, { names, whole, begin: 0, end: 0 });
    this.before = this.after = this.read(label);
  }

  /** The share of each label, the last that of none. */
  read(label) {
    const shares = new Array(this.names.length + 1).fill(0);
    const at = label ? this.names.indexOf(label) : this.names.length;
    if (at < 0) throw new Error(`No label is called ${label}; there are ${this.names.join(", ")}.`);
    shares[at] = 1;
    return shares;
  }

  shares(frame) {
    const passed = frame >= this.end ? 1 : Math.min(1, Math.max(0, (frame - this.begin + 1) / Math.max(1, this.end - this.begin)));
    return this.before.map((share, i) => share * (1 - passed) + this.after[i] * passed);
  }

  turn(label, start, frames) {
    [this.before, this.after, this.begin, this.end] = [this.shares(start - 1), this.read(label), start, start + frames];
  }

  pairs(start, count) {
    const rows = Array.from({ length: count }, (_, i) => this.shares(start + i));
    const numbers = this.before.map((_, i) => i).filter((i) => rows.some((row) => row[i]));
    const pairs = rows.flatMap((row) => numbers.flatMap((i) => [i, Math.round(row[i] * this.whole)]));
    return tensor(Int32Array.from(pairs), [1, count, numbers.length, 2]);
  }
}

/** A generator at work. model: its entry in site.json with its `graphs` open. source: the level above, or null.
 *  score: the level of the score that it performs, or null. */
export class Level extends Frames {
  constructor(model, about, seed, steering, { source = null, score = null, label = "" } = {}) {
    super(model.books);
    Object.assign(this, { model, about, seed, steering, source, score, loop: null, loopStart: 0, rest: 0 });
    this.level = model.level;
    this.perBlock = about.block / model.level;
    this.sampling = { ...model.sampling };
    this.group = source ? Math.ceil(about.least_source / source.perBlock) : 1;
    this.labels = model.labels && new Labels(model.labels, label);
    const memory = Object.fromEntries(model.states.map(([name, shape]) => [name, tensor(new Float32Array(shape.reduce((a, b) => a * b, 1)), [1, ...shape])]));
    this.state = { previous: new Int32Array(this.books).fill(model.start), memory };
    this.skips = !source && !score && model.quiet;
    this.second = about.rate / model.level;
  }

  get blocks() {
    return Math.floor(this.stop / this.perBlock);
  }

  async fill(stop) {
    while (this.stop < stop) await this.sample(await this.context(this.blocks));
  }

  /** The positions of the level above that the context of the codes start … stop − 1 reads. */
  span(start, stop) {
    const { ratio, halo } = this.model;
    return [Math.floor(start / ratio) - halo, Math.floor(stop / ratio) + halo];
  }

  /** The context of a block, with time first; null without conditions. The level above is sampled up to there. */
  async context(block) {
    const { conditions, graphs } = this.model;
    if (!conditions.length) return null;
    const [group, row] = [Math.floor(block / this.group), block % this.group];
    const count = this.group * this.perBlock;
    if (this.cached?.group !== group || this.cached.labels !== this.labels?.end) {
      const inputs = {};
      for (const condition of conditions) inputs[condition.input] = await this[condition.kind](condition, group * count, count);
      const { data, dims } = Object.values(await graphs.context.run(inputs))[0];
      this.cached = { group, labels: this.labels?.end, data, one: dims[1] === 1, channels: dims[2] };
    }
    const { data, one, channels } = this.cached;
    const size = this.perBlock * channels;
    if (!one) return data.slice(row * size, (row + 1) * size);
    return Float32Array.from({ length: size }, (_, i) => data[i % channels]);
  }

  /** Inputs of the conditions, by their kind. */
  async codes(condition, start, count) {
    const [begin, end] = this.span(start, start + count);
    await this.source.fill(end);
    return tensor(this.source.window(begin, end, this.model.pad), [1, end - begin, this.source.books]);
  }

  async labelled(condition, start, count) {
    return this.labels.pairs(start, count);
  }

  async score_rows(condition, start, count) {
    const rows = count + 2 * condition.halo;
    const values = this.score
      ? await this.score.inFrames((start - condition.halo) * this.level, rows, this.level)
      : Int32Array.from({ length: rows * (condition.books + 1) }, (_, i) => ((i + 1) % (condition.books + 1) ? 0 : condition.no_score));
    return tensor(values, [1, rows, condition.books + 1]);
  }

  /** The draws of steps from `start` on, frame after frame. offset: added to the numbers of the books. */
  draws(start, count, offset = 0) {
    const draws = new Float32Array(count * this.books);
    for (let book = 0; book < this.books; book++) uniforms(this.seed, 0, this.level, start, count, offset + book).forEach((x, i) => (draws[i * this.books + book] = x));
    return draws;
  }

  /** Run the loop over as many frames as there are draws, from `state` on: [codes, their log-probabilities]. */
  async run(draws, context, state, forced = null, bias = null) {
    const { books, model, sampling } = this;
    const steps = [draws.length / books, 1, books];
    const greedy = sampling.temperature === 0;
    const out = await model.graphs.loop.run({
      uniforms: tensor(draws, steps),
      previous: tensor(state.previous, [1, books]),
      inverse_temperature: tensor(Float32Array.of(greedy ? 1 : 1 / sampling.temperature), []),
      forced: tensor(forced ?? new Int32Array(draws.length).fill(-1), steps),
      top_k: tensor(BigInt64Array.of(BigInt(greedy ? 1 : sampling.top_k)), []),
      top_p: tensor(Float32Array.of(greedy ? 1 : sampling.top_p), []),
      bias: tensor(bias ?? new Float32Array(books * model.num_codes), [books, model.num_codes]),
      ...(context ? { context: tensor(context, [steps[0], 1, context.length / steps[0]]) } : {}),
      ...state.memory,
    });
    state.previous = out.codes.data.slice(-books);
    state.memory = Object.fromEntries(model.states.map(([name]) => [name, out[`${name}_out`]]));
    return [out.codes.data, out.log_probs.data];
  }

  /** Sample one block. The codes of a frozen loop stand in their places. */
  async sample(context) {
    const start = this.stop;
    if (this.skips) await this.skipRests(context);
    const places = this.loop && Array.from({ length: this.perBlock }, (_, i) => (start - this.loopStart + i) % this.loop.length);
    const forced = places && Int32Array.from(places.flatMap((place) => [...this.loop[place]]));
    if (places && this.steering.mutate) {
      // Book number `books` has the draws that no code takes.
      uniforms(this.seed, 0, this.level, start, this.perBlock, this.books).forEach((u, i) => u < this.steering.mutate && forced.fill(-1, i * this.books, (i + 1) * this.books));
    }
    await this.runBlock(context, forced);
    places?.forEach((place, i) => (this.loop[place] = this.frames[start - this.first + i]));
    if (this.skips) this.rest = mean(this.frames.slice(-this.perBlock).map((frame) => this.quietness(frame))) >= this.about.opening.resting ? this.rest + this.perBlock : 0;
  }

  async runBlock(context, forced) {
    this.append(...(await this.run(this.draws(this.stop, this.perBlock), context, this.state, forced, this.bias())));
  }

  /** What held notes add to the logits, as `play/pitches.py` says; null without notes. */
  bias() {
    const { pitches } = this.model;
    const { notes, pull } = this.steering;
    const held = [...new Set(notes.map((note) => note % 12))];
    if (!pitches || !held.length || !pull || held.length === 12) return null;
    const [even, floor] = [held.length / 12, this.about.pitch_floor];
    return Float32Array.from({ length: pitches.length / 12 }, (_, i) => {
      const powers = pitches.subarray(12 * i, 12 * i + 12);
      const share = (held.reduce((sum, k) => sum + powers[k], 0) + floor * even) / (powers.reduce((sum, x) => sum + x, 0) + floor) - even;
      return (pull * share) / (1 - even);
    });
  }

  freeze(frames) {
    [this.loop, this.loopStart] = [frames ? this.frames.slice(-frames) : null, this.stop];
  }

  quietness(frame) {
    return mean(Array.from(frame, (code, book) => this.model.quiet[book * this.model.num_codes + code]));
  }

  /** Where the piece has not begun, or has rested for too long, compose on unheard until the music sounds. */
  async skipRests(context) {
    const { longest, sounding, rest, draws } = this.about.opening;
    if (this.loop || (this.stop && this.rest < rest * this.second)) return;
    this.rest = 0;
    const heard = [];
    const sounds = ([seconds, decibels]) => heard.length >= seconds * this.second && mean(heard.slice(-Math.round(seconds * this.second))) < decibels;
    while (heard.length < longest * this.second && !sounding.every(sounds)) {
      const [codes] = await this.run(this.draws(this.stop + heard.length, this.perBlock, draws), context, this.state);
      for (let i = 0; i < codes.length; i += this.books) heard.push(this.quietness(codes.subarray(i, i + this.books)));
    }
  }
}
