// A stream of blocks of music that a player steers (`play/stream.py`, `play/chain.py`, `play/blocks.py`).

import { Level, mean, tensor } from "./level.js";
import { uniforms } from "./philox.js";
import { ScoreLevel } from "./score.js";

const dot = (a, b) => a.reduce((sum, x, i) => sum + x * b[i], 0);

/** Let `before` pass into the first samples of `audio`, at constant loudness (`mastering.cross_fade`). */
function fadeIn(audio, before) {
  const now = audio.slice(0, before.length);
  const power = Math.sqrt(dot(before, before) * dot(now, now));
  const alike = power > 0 ? Math.max(0, dot(before, now)) / power : 1;
  for (let i = 0; i < now.length; i++) {
    const up = 0.5 - 0.5 * Math.cos((Math.PI * (i + 0.5)) / now.length);
    audio[i] = (before[i] * (1 - up) + now[i] * up) / Math.sqrt(up ** 2 + (1 - up) ** 2 + 2 * alike * up * (1 - up));
  }
}

/** A slow gain towards one loudness, and the loudness that the player sets. */
class Loudness {
  constructor({ rate, leveling, ramp, quietest }) {
    Object.assign(this, { rate, ramp: Math.round(ramp * rate), quietest, decibel: 0, before: 1, gain: 1 }, leveling);
    Object.assign(this, { power: this.prior * 10 ** (this.loudness / 10), seconds: this.prior });
  }

  apply(audio) {
    const [duration, power] = [audio.length / this.rate, dot(audio, audio) / audio.length];
    if (power > 10 ** (this.least / 10)) {
      const kept = Math.exp(-duration / this.remembered);
      [this.power, this.seconds] = [kept * this.power + duration * power, kept * this.seconds + duration];
    }
    const away = this.share * (this.loudness - 10 * Math.log10(this.power / this.seconds));
    const peak = audio.reduce((most, x) => Math.max(most, Math.abs(x)), 1e-9);
    const [first, last] = [this.gain, Math.min(10 ** (Math.min(this.most, Math.max(-this.most, away)) / 20), this.peak / peak)];
    const [before, set] = [this.before, this.decibel <= this.quietest ? 0 : 10 ** (this.decibel / 20)];
    [this.gain, this.before] = [last, set];
    return audio.map((x, i) => {
      const turned = i < this.ramp ? before + (set - before) * (0.5 - 0.5 * Math.cos((Math.PI * (i + 0.5)) / this.ramp)) : set;
      return x * (first + (last - first) * ((i + 1) / audio.length)) * turned;
    });
  }
}

const LETTERS = { C: 0, D: 2, E: 4, F: 5, G: 7, A: 9, B: 11 };
const SCALES = { major: [0, 2, 4, 5, 7, 9, 11], minor: [0, 2, 3, 5, 7, 8, 10] };

/** The pitch classes of a key such as "D-minor"; of "" none. */
function readKey(key) {
  if (!key) return [];
  const [, letter, accidental, scale] = /^([A-G])([#b]?)[- ](major|minor)$/.exec(key) ?? [];
  if (!letter) throw new Error(`The key is ${key}; it must be like D-minor, Bb-major or F#-minor.`);
  return SCALES[scale].map((step) => (LETTERS[letter] + { "": 0, "#": 1, b: 11 }[accidental] + step) % 12);
}

export class Stream {
  /** about: site.json, with the graphs of its models open. seed: BigInt. settings: {temperature: by level, label}. */
  constructor(about, seed, { temperature = {}, label = "" } = {}) {
    // A piece without a label plays like a track that its seed draws.
    const drawn = about.label_draw ? about.labels[Math.floor(about.labels.length * uniforms(seed, 0, 0, 0, 1, about.label_draw)[0])] : "";
    Object.assign(this, { about, label: label || drawn, pending: [], past: [], heard: 0, begun: 0, held: 0, place: 0 });
    this.steering = { notes: [], scale: [], section: "", ...Object.fromEntries(about.controls.map(({ name, default: value }) => [name, value])) };
    this.sampling = Object.fromEntries(about.levels.map(({ level, sampling }) => [level, { ...sampling, temperature: temperature[level] ?? sampling.temperature }]));
    this.loudness = new Loudness(about);
    this.start(seed);
  }

  /** Begin a piece. */
  start(seed) {
    const { about, steering } = this;
    Object.assign(this, { seed, levels: [], blocks: 0, runsAhead: false });
    this.score = about.score && new ScoreLevel(about.score.model, about, seed, steering);
    for (const model of about.levels) {
      const source = this.levels.at(-1) ?? null;
      this.levels.push(new Level(model, about, seed, steering, { source, score: source ? null : this.score, label: this.label }));
      this.levels.at(-1).sampling = this.sampling[model.level];
    }
    this.bottom = this.levels.at(-1);
  }

  /** Change what plays, see `Stream.set` in Python: the sample that the change holds from. */
  set(change) {
    const { about } = this;
    const [known, levels] = [about.names, about.levels.map(({ level }) => String(level))];
    for (const [name, value] of Object.entries(change)) {
      if (!known.includes(name)) throw new Error(`This page cannot change ${name}; it can change ${known.join(", ")}.`);
      const { least, most } = about.controls.find((control) => control.name === name) ?? {};
      for (const number of least === undefined ? [] : typeof value === "object" ? Object.values(value) : [value]) if (!(number >= least && number <= most)) throw new Error(`${name} is ${number}; it must be from ${least} to ${most}.`);
      const missing = ["sampling", "freeze"].includes(name) && typeof value === "object" && Object.keys(value).find((level) => !levels.includes(level));
      if (missing) throw new Error(`${name} names level ${missing}; there are ${levels.join(", ")}.`);
    }
    if (change.key) readKey(change.key);
    if (change.hold && !this.begun) throw new Error("There is nothing to hold yet.");
    this.pending.push(change);
    return this.begun * about.block;
  }

  async change({ sampling = {}, jump, label, loudness, key, freeze, hold, ...steering }) {
    const { about, levels } = this;
    const frames = (level, seconds) => Math.round((seconds * about.rate) / level);
    for (const [level, values] of Object.entries(sampling)) Object.assign(this.sampling[level], values);
    if (loudness !== undefined) this.loudness.decibel = loudness;
    if (label !== undefined) this.label = label;
    if (jump !== undefined) {
      if (this.heard) await this.passOn(about.passage, true);
      this.held = 0;
      this.following = null;
      this.start(BigInt(jump));
    } else if (label !== undefined) for (const level of levels) level.labels?.turn(label, level.stop, frames(level.level, about.cross_fade));
    if (key !== undefined) this.steering.scale = readKey(key);
    Object.assign(this.steering, steering);
    const frozen = typeof freeze === "number" ? { [levels[0].level]: freeze } : freeze ?? {};
    for (const [level, seconds] of Object.entries(frozen)) levels.find((one) => String(one.level) === level).freeze(seconds && Math.max(1, frames(level, seconds)));
    if (hold !== undefined) await this.hold(hold && Math.max(1, Math.round((hold * about.rate) / about.block)));
  }

  /** Repeat the last blocks; 0: go on. */
  async hold(blocks) {
    if (this.held) await this.passOn(this.about.seam, false);
    else if (blocks) this.following ??= await this.nextOfChain();
    [this.held, this.place] = [Math.min(blocks, this.past.length), 0];
  }

  /** What comes next passes into the block after it. make: from the chain too, where no hold is half way. */
  async passOn(seconds, make) {
    if (this.passing) return;
    const half = this.held && this.place;
    const block = half ? this.past.at(this.place - this.held) : make && (this.following ?? (await this.nextOfChain()));
    this.passing = block && block.audio.slice(0, Math.round(seconds * this.about.rate));
  }

  /** The next block: {audio, codes and bits a frame by level, notes of the score}. */
  async next() {
    const { about, past } = this;
    this.begun = this.heard + 1;
    for (const change of this.pending.splice(0)) await this.change(change);
    let block;
    if (this.held) {
      block = { ...past.at(this.place - this.held) };
      block.audio = block.audio.slice();
      if (!this.place && !this.passing) fadeIn(block.audio, this.following.audio.slice(0, Math.round(about.seam * about.rate)));
      this.place = (this.place + 1) % this.held;
    } else if (this.following) [block, this.following] = [this.following, null];
    else block = await this.nextOfChain();
    if (this.passing) fadeIn(block.audio, this.passing);
    this.passing = null;
    if (!this.held) {
      past.push(block);
      if (past.length > Math.round((about.past * about.rate) / about.block)) past.shift();
    }
    this.heard += 1;
    return { ...block, audio: this.loudness.apply(block.audio) };
  }

  async nextOfChain() {
    const { about, bottom } = this;
    const needed = (this.blocks + 1) * bottom.perBlock + about.codec.halo;
    while (bottom.stop < needed) await this.sample();
    // From the second block on, sampling runs one block ahead.
    if (this.runsAhead) await this.sample();
    this.runsAhead = true;
    const audio = await this.decode();
    const [codes, bits] = [{}, {}];
    for (const level of this.levels) {
      const begin = this.blocks * level.perBlock;
      codes[level.level] = level.window(begin, begin + level.perBlock, 0);
      bits[level.level] = mean(level.nats.slice(begin - level.first, begin - level.first + level.perBlock)) / Math.LN2;
    }
    const begin = this.blocks * about.block;
    const notes = this.score ? this.score.notes(begin, begin + about.block).map(([first, last, midi]) => [first - begin, last - first, midi]) : [];
    this.blocks += 1;
    this.trim();
    return { audio, codes, bits, notes };
  }

  /** Sample the bottom level's next block; the levels above are then ready for the block after it. */
  async sample() {
    const { bottom } = this;
    const block = bottom.blocks;
    const context = await bottom.context(block);
    if (bottom.source) await bottom.context(block + 1);
    await bottom.sample(context);
  }

  async decode() {
    const { bottom } = this;
    const { graph, halo, near, period, level } = this.about.codec;
    const begin = this.blocks * bottom.perBlock;
    const [first, last] = [Math.max(0, begin - halo), begin + bottom.perBlock + halo];
    const part = Math.max(0, begin - first - near);
    const feeds = { codes: tensor(bottom.window(first, last, 0), [1, last - first, bottom.books]) };
    if (graph.inputs.includes("places")) {
      const places = Int32Array.from({ length: Math.min(begin - first + bottom.perBlock + near, last - first) - part }, (_, i) => part + i);
      feeds.places = tensor(places, [1, places.length]);
    }
    if (period) feeds.start = tensor(Int32Array.of(first % period), [1]);
    const { data } = Object.values(await graph.run(feeds))[0];
    const from = (begin - first - (feeds.places ? part : 0)) * level;
    return data.slice(from, from + this.about.block);
  }

  /** Forget the codes that nothing will read. */
  trim() {
    const { about, levels } = this;
    levels.forEach((level, i) => {
      const below = levels[i + 1];
      let keep = this.blocks * level.perBlock;
      if (below) {
        const group = Math.floor(below.blocks / below.group) * below.group * below.perBlock;
        [keep] = [Math.min(keep, below.span(group, group)[0])];
      } else keep -= about.codec.halo;
      level.trim(Math.max(0, Math.min(keep, level.stop - Math.ceil((about.past * about.rate) / level.level))));
    });
    const [top] = levels;
    this.score?.forget((top.blocks * top.perBlock - about.score.halo) * top.level);
  }
}
