// A stream of blocks of music that a player steers (`play/stream.py`, `play/chain.py`, `play/blocks.py`).

import { Level, clip, sum } from "./level.js";
import { Tensor } from "./ort.js";
import { uniforms } from "./philox.js";
import { ScoreLevel } from "./score.js";

export const SEED = /^\d{1,38}$/; // less than 2^128
const dot = (a, b) => a.reduce((total, x, i) => total + x * b[i], 0);

const OF_SCORE = ["tempo", "density", "key", "chords", "section", "sampling"]; // changes of what is composed, beside a label
const trackOf = (part) => part.replace(/\/[^/]*$/, "");
const fade = (i, n) => 0.5 - 0.5 * Math.cos((Math.PI * (i + 0.5)) / n);

/** Let `before` pass into the first samples of `audio`, at constant loudness (`mastering.cross_fade`). */
function fadeIn(audio, before) {
  const now = audio.slice(0, before.length);
  const power = Math.sqrt(dot(before, before) * dot(now, now));
  const alike = power > 0 ? Math.max(0, dot(before, now)) / power : 1;
  now.forEach((x, i) => {
    const up = fade(i, now.length);
    audio[i] = (before[i] * (1 - up) + x * up) / Math.sqrt(up ** 2 + (1 - up) ** 2 + 2 * alike * up * (1 - up));
  });
}

/** A slow gain towards one loudness, and the loudness that the player sets. */
class Loudness {
  constructor({ rate, leveling, ramp, quietest }) {
    Object.assign(this, leveling, { power: leveling.prior * 10 ** (leveling.leveled_to / 10), seconds: leveling.prior, gain: 1 });
    Object.assign(this, { rate, ramp: Math.round(ramp * rate), quietest, decibel: 0, before: 1 });
  }

  apply(audio) {
    const [duration, power] = [audio.length / this.rate, dot(audio, audio) / audio.length];
    if (power > 10 ** (this.least / 10)) {
      const kept = Math.exp(-duration / this.remembered);
      [this.power, this.seconds] = [kept * this.power + duration * power, kept * this.seconds + duration];
    }
    const away = this.leveled * (this.leveled_to - 10 * Math.log10(this.power / this.seconds));
    const peak = audio.reduce((most, x) => Math.max(most, Math.abs(x)), 1e-9);
    const { gain, before, ramp } = this;
    this.gain = Math.min(10 ** (clip(away, -this.most_leveled, this.most_leveled) / 20), this.peak / peak);
    this.before = this.decibel <= this.quietest ? 0 : 10 ** (this.decibel / 20);
    const level = (length) => audio.map((x, i) => x * (gain + (this.gain - gain) * Math.min((i + 1) / length, 1)));
    let leveled = level(audio.length);
    // The gain falls before the first peak, not over the whole block.
    if (leveled.some((x) => Math.abs(x) > 1)) leveled = level(Math.max(1, leveled.findIndex((x) => Math.abs(x) > this.peak)));
    return leveled.map((x, i) => x * (before + (this.before - before) * (i < ramp ? fade(i, ramp) : 1)));
  }
}

export const sampling = ({ levels, score }) => Object.fromEntries([...(score ? [score.model] : []), ...levels].map(({ name, sampling }) => [name, { ...sampling }]));

export class Stream {
  /** about: site.json, with the graphs of its models open. seed: BigInt. */
  constructor(about, seed, label = "") {
    Object.assign(this, { about, pending: [] }); // changes that the next block makes
    [this.heard, this.begun] = [0, 0]; // blocks that were returned, and those with the block that is being made
    [this.past, this.following] = [[], null]; // the last blocks of the chain, which a hold repeats, and the block that comes after it
    [this.held, this.place] = [0, 0]; // how many blocks a hold repeats (0: no hold), and the number of the next of them
    this.passing = null; // the samples that fade out at the beginning of the next block
    this.steering = { notes: [], key: [], chords: [], section: "", ...Object.fromEntries(about.controls.map((control) => [control.name, control.default])) };
    this.sampling = sampling(about);
    this.loudness = new Loudness(about);
    this.mixture = this.mixtureOf(label);
    this.start(seed);
  }

  /** The shares of the labels, the last that of none, in a text such as "a" or "a:0.7,b:0.3" (`read_labels` in `play/labels.py`). */
  mixtureOf(text) {
    const { parts, levels: [{ labels }] } = this.about;
    const names = labels?.names ?? [];
    const shares = [...names, ""].map((name) => Number(!name && !text && !parts));
    const groups = new Map([["", parts ? [...names.keys()] : []], ...(labels?.groups ?? []), ...names.map((name, i) => [name, [i]])]);
    for (const part of groups.has(text) ? [text] : text.split(",")) {
      const [, name, share] = groups.has(part.trim()) ? [0, part.trim(), 1] : /^(.*):([\d.]+)$/.exec(part.trim()) ?? [0, part, 1];
      if (!groups.has(name)) throw new Error(`No label is called ${name}; ${names.length ? `there are ${this.about.labels.join(", ")}` : "the model has none"}.`);
      const tracks = groups.get(name).map((i) => trackOf(names[i]));
      groups.get(name).forEach((number, i) => (shares[number] += share / new Set(tracks).size / tracks.filter((track) => track === tracks[i]).length));
    }
    return shares.map((share) => share / sum(shares));
  }

  /** The shares of the labels that sound in a section of the score: of parts, one is drawn (`labels_of_section` in `play/labels.py`). */
  labelsOf(section) {
    const { seed, mixture, about: { parts, levels: [{ labels }] } } = this;
    if (!parts) return mixture;
    const draw = (chances, number, stream) => {
      let left = uniforms(seed, 0, 0, number, 1, stream)[0] * sum(chances);
      return chances.findIndex((chance) => (left -= chance) < 0);
    };
    const tracks = [...new Set(labels.names.map(trackOf))];
    const ofTrack = (track) => mixture.map((share, i) => (i < labels.names.length && trackOf(labels.names[i]) === track ? share : 0));
    const track = tracks[draw(tracks.map((one) => sum(ofTrack(one))), Math.floor(section / parts.sections), parts.track_draw)];
    const part = draw(ofTrack(track), section, parts.part_draw);
    return mixture.map((_, i) => Number(i === part));
  }

  start(seed) {
    const { about, steering, sampling } = this;
    Object.assign(this, { seed, levels: [], bottom: null, blocks: 0, memory: undefined, tail: null, section: 0 }); // blocks: of this chain that are decoded. tail: the samples after the last
    this.sounding = this.labelsOf(0); // the shares of the labels in the section that is composed
    this.score = about.score && new ScoreLevel(about.score.model, about, seed, steering, { sampling: sampling.score, partOf: about.score.model.tables.registers_shares && ((section) => this.labelsOf(section).indexOf(1)) });
    for (const model of about.levels) {
      const options = { source: this.bottom, score: this.score, label: this.sounding, sampling: sampling[model.name] };
      this.levels.push((this.bottom = new Level(model, about, seed, steering, options)));
    }
  }

  /** Refuse a change that cannot be made, as the link of another page may have. */
  check(change) {
    const { names, controls, keys, quietest, loudest, take: { sampled } } = this.about;
    const refuse = (words) => { throw new Error(words); };
    for (const [name, value] of Object.entries(change)) {
      if (!names.includes(name)) refuse(`This page cannot change ${name}; it can change ${names.join(", ")}.`);
      const { least, most, floor } = name === "loudness" ? { least: quietest, most: loudest } : controls.find((control) => control.name === name) ?? {};
      if (least !== undefined && !(value >= (floor ?? least) && value <= most || value === least)) refuse(`${name} is ${value}; it must be ${floor ? `${least} or ` : ""}from ${floor ?? least} to ${most}.`);
    }
    const largest = { temperature: Infinity, top_k: Infinity, top_p: 1 };
    for (const [level, fields] of this.fieldsOf(change.sampling)) for (const [name, value] of Object.entries(fields)) {
      if (!this.sampling[level] || !(name === "temperature" || sampled[name]?.includes(level)) || !(typeof value === "number" && value >= 0 && value <= largest[name])) refuse(`This page cannot set ${name} of level ${level} to ${value}.`);
    }
    const { bar = false, key, chords, jump, label } = change;
    if (typeof bar !== "boolean") refuse(`bar is ${bar}; it must be true or false`);
    if (chords) this.chordsOf(chords);
    if (jump !== undefined && !SEED.test(jump)) refuse(`jump is ${jump}; it must be a seed, a whole number of at most 38 digits.`);
    if (label) this.mixtureOf(label);
    if (key && !keys[key] && !keys[`C-${key}`]) refuse(`The key is ${key}; it must be like D-minor, Bb-major or minor.`);
  }

  /** The fields that a change of the sampling sets, with the name of their level; a field without a level is for all that take it. */
  fieldsOf(change = {}) {
    const named = (level) => (level in this.sampling ? level : `${level}x`);
    return Object.entries(change).flatMap(([key, value]) => (typeof value === "object" ? [[named(key), value]] : (this.about.take.sampled[key] ?? [key]).map((level) => [level, { [key]: value }])));
  }

  /** Change what plays, see `Stream.set` in Python: the sample that the change holds from. */
  set(change) {
    this.check(change);
    if (change.hold && !this.begun) throw new Error("There is nothing to hold yet.");
    this.pending.push(change);
    return this.begun * this.about.block;
  }

  /** A change, if it can take effect with a bar now: of the score with one that is composed, of the sound with one in the next block. */
  onBar(change) {
    const { score, about, blocks } = this;
    if (OF_SCORE.some((name) => name in change)) return score.nextBar(this.performed) === null ? undefined : { ...change, bar: true };
    return score.form(blocks * about.block).beats.some(([time, place]) => place === 0 && time < about.block) ? change : undefined;
  }

  /** The sample up to which the score is performed. */
  get performed() { return Math.max(...this.levels.filter(({ model }) => model.conditions.some(({ kind }) => kind === "score")).map(({ stop, level }) => stop * level)); }

  /** Compose again what changes reach. */
  async update() {
    if (!this.outdated) return;
    this.outdated = false;
    await this.score.composeAgain(this.performed);
    for (const level of this.levels) level.cached = null;
  }

  /** Make a change. bar: of the score, with its next bar. hold: repeat the last blocks; 0: go on. */
  async change(change) {
    const { bar, sampling, jump, label, loudness, key, chords, freeze, hold, ...steering } = change;
    const { about, score } = this;
    if (bar) await this.update();
    if (bar && score) score.landed = score.nextBar(this.performed) ?? score.stop;
    for (const [level, values] of this.fieldsOf(sampling)) Object.assign(this.sampling[level], values);
    if (loudness !== undefined) this.loudness.decibel = loudness;
    if (jump !== undefined && this.heard) await this.blendIntoNext(about.passage, true);
    if (label !== undefined) this.mixture = this.mixtureOf(label);
    if (jump !== undefined) {
      [this.held, this.following] = [0, null];
      this.start(BigInt(jump));
    }
    if (key !== undefined) this.steering.key = this.sharesOf(key);
    if (chords !== undefined) this.steering.chords = this.chordsOf(chords);
    Object.assign(this.steering, steering);
    this.outdated ||= Boolean(this.score) && [...OF_SCORE, "label"].some((name) => name in change);
    for (const level of this.levels) {
      const seconds = freeze?.[level.model.name] ?? freeze?.[level.level] ?? (typeof freeze === "number" && level === this.levels[0] ? freeze : null);
      if (seconds !== null) level.freeze(seconds && Math.max(1, this.frames(level, seconds)));
    }
    if (hold === undefined) return;
    if (this.held) await this.blendIntoNext(about.seam, false);
    else if (hold) this.following ??= await this.nextOfChain();
    const blocks = hold && Math.max(1, Math.round((hold * about.rate) / about.block));
    [this.held, this.place] = [Math.min(blocks, this.past.length), 0];
  }

  /** The share of each pitch class in a key; the seed draws the tonic of a mode alone (`read_key` in `play/changes.py`). */
  sharesOf(key) {
    const { keys, key_draw } = this.about;
    const first = Math.floor(12 * uniforms(this.seed, 0, 0, 0, 1, key_draw)[0]);
    return keys[key] ?? (keys[`C-${key}`] ?? []).map((_, pitch, shares) => shares[(pitch - first + 12) % 12]);
  }

  /** The share of each pitch class in each of the chords that a text names (`read_chords` in `play/changes.py`). */
  chordsOf(text) {
    return text.split(/[\s,|]+/).filter(Boolean).map((name) => {
      const [, letter = "", sign, kind] = /^([a-g])([#b]?)(.*)$/i.exec(name) ?? [];
      const tones = letter && this.about.chords[kind];
      if (!tones) throw new Error(`The chords have ${name}; a chord is a note, such as A, F# or Bb, and one of: ${Object.keys(this.about.chords).filter(Boolean).join(", ")}, or nothing for major.`);
      const root = "C D EF G A B".indexOf(letter.toUpperCase()) + (sign === "#") - (sign === "b");
      return Array.from({ length: 12 }, (_, pitch) => (tones.includes((pitch - root + 24) % 12) ? 1 / tones.length : 0));
    });
  }

  frames(level, seconds) { return Math.round((seconds * this.about.rate) / level.level); }

  /** Cross-fade to the labels of the section that is composed, where others sound. */
  followLabel() {
    const { score, about: { cross_fade, beats_of_fade } } = this;
    const section = score?.section ?? 0;
    if (section === this.section && this.mixture === this.followed) return;
    const seconds = section === this.section ? cross_fade : (60 * beats_of_fade) / (score.steering.tempo || score.chosenTempo);
    [this.section, this.followed] = [section, this.mixture];
    const labels = this.labelsOf(section);
    if (String(labels) === String(this.sounding)) return;
    this.sounding = labels;
    for (const level of this.levels) if (level.labels) level.passToLabel(labels, this.frames(level, seconds));
  }

  /** What would have come next fades out over the block after a change. make: from the chain too, where no hold is half way. */
  async blendIntoNext(seconds, make) {
    if (this.passing) return;
    const half = this.held && this.place;
    const block = half ? this.past.at(this.place - this.held) : make && (this.following ?? (await this.nextOfChain()));
    this.passing = block && block.audio.slice(0, Math.round(seconds * this.about.rate));
  }

  /** The next block: {audio, codes and bits a frame by level, notes and form of the score from its first sample on}. */
  async nextBlock() {
    const { about, past, pending } = this;
    this.begun = this.heard + 1;
    for (const change of pending.splice(0)) await this.change(change);
    const { held, following } = this;
    const block = { ...(held ? past.at(this.place - held) : following ?? (await this.nextOfChain())) };
    block.audio = block.audio.slice();
    if (held && !this.place && !this.passing) fadeIn(block.audio, following.audio.slice(0, Math.round(about.seam * about.rate)));
    if (this.passing) fadeIn(block.audio, this.passing);
    this.passing = null;
    if (held) this.place = (this.place + 1) % held;
    else {
      this.following = null;
      past.push(block);
      if (past.length > Math.round((about.past * about.rate) / about.block)) past.shift();
    }
    this.heard += 1;
    return { ...block, audio: this.loudness.apply(block.audio) };
  }

  async nextOfChain() {
    const { about, blocks, bottom } = this;
    await this.update();
    this.followLabel();
    const needed = (blocks + 1) * bottom.perBlock + about.codec.beyond;
    while (bottom.stop < needed) await this.sample();
    const audio = await this.decode();
    const byLevel = (value) => Object.fromEntries(this.levels.map((level) => [level.level, value(level)]));
    const codes = byLevel((level) => level.window(blocks * level.perBlock, (blocks + 1) * level.perBlock));
    const bits = byLevel((level) => level.bits.shift());
    const notes = this.score?.notes(blocks * about.block, Infinity) ?? [];
    const form = this.score?.form(blocks * about.block);
    this.blocks += 1;
    for (const level of this.levels) level.trim(level.stop - Math.ceil((about.kept * about.rate) / level.level));
    this.score?.forget(blocks * about.block);
    return { audio, codes, bits, notes, form };
  }

  /** Sample the bottom level's next block; the levels above are then ready for the block after it. */
  async sample() {
    const { bottom } = this;
    const context = await bottom.context(bottom.blocks);
    if (bottom.source) await bottom.context(bottom.blocks + 1);
    await bottom.sample(context);
  }

  /** The sound of the next block (`Decoder` in `play/decoder.py`, `CodecEngine.decode_part`). The decoder remembers the
   *  codes of earlier blocks. It sees `beyond` codes after the block, and the last of them again `assumed` times. */
  async decode() {
    const { bottom, blocks, memory, tail, about: { block, codec: { graph, splits, halo, past, beyond, assumed, smooth, near, delay, window, state, period, level } } } = this;
    const begin = blocks * bottom.perBlock;
    const stop = begin + bottom.perBlock + beyond;
    const last = begin + bottom.perBlock + smooth; // with the frames that the next block fades in over
    const first = memory ? stop - bottom.perBlock : Math.max(0, begin - halo - past);
    const end = stop + assumed;
    const known = bottom.window(first, stop);
    const codes = new Int32Array(((splits ? Math.max(end, last + near + delay) : end) - first) * bottom.books);
    codes.set(known);
    for (let i = 0; i < assumed; i++) codes.set(known.slice(-bottom.books), known.length + i * bottom.books);
    const count = codes.length / bottom.books;
    const feeds = { codes: new Tensor(codes, [1, count, bottom.books]) };
    let [start, from] = [first, first]; // the first frame that the later stages may see, and the first that they compute
    if (splits) {
      [start, from] = [first - delay - window, Math.max(0, begin - near)];
      const inside = Float32Array.from({ length: delay + count }, (_, i) => Number(first - delay + i >= 0 && first - delay + i < end));
      const places = Int32Array.from({ length: Math.min(last + near, end) - from }, (_, i) => from - start + i);
      Object.assign(feeds, { inside: new Tensor(inside, [1, inside.length, 1]), places: new Tensor(places, [1, places.length]), kept: new Tensor(Int32Array.of(stop - first), [1]), state: memory ?? new Tensor(new Float32Array(state), [1, state]) });
    }
    if (period) feeds.start = new Tensor(Int32Array.of((start + period * halo) % period), [1]);
    const { samples: { data }, state_out } = await graph.run(feeds);
    const whole = data.slice((begin - from) * level, (last - from) * level);
    [this.memory, this.tail] = [state_out, smooth && whole.slice(block)];
    const audio = whole.slice(0, block);
    if (tail) fadeIn(audio, tail);
    return audio;
  }
}
