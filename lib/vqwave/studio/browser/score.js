// The score at work: composes beat by beat, ahead of the level that performs it (`play/score.py`).

import { Level, clip, sum } from "./level.js";
import { uniforms } from "./philox.js";

/** The nearest whole number, the even one of two. */
const rint = (x) => (Math.abs(x % 1) === 0.5 ? 2 * Math.round(x / 2) : Math.round(x));

/** The quantile of sorted numbers for a share, as np.quantile computes it. */
function quantile(values, share) {
  const place = share * (values.length - 1);
  const [low, high] = [values[Math.floor(place)], values[Math.ceil(place)]];
  const part = place % 1;
  return part < 0.5 ? low + (high - low) * part : high - (high - low) * (1 - part);
}

/** Positions are steps. times: the sample at which each step begins, and the end of the last. */
export class ScoreLevel extends Level {
  constructor(model, about, seed, steering, options) {
    super(model, { ...about, block: model.level * about.score.steps_per_beat }, seed, steering, options);
    Object.assign(this, about.score, { rate: about.rate, codes: model.num_codes, times: [0], chosenTempo: 0, sections: [], theme: -1, began: 0, until: 0 });
    [this.marks, this.landed] = [[], 0]; // what was known before each beat that a change may still reach; the first step of the last bar at which a change began
    this.pitched = this.books - this.bands; // the books before those of attacks
    this.line = []; // the step and the book of the last notes of the top line
    this.known = new Set(new Uint32Array(model.tables.ngrams.buffer));
    this.curves = new Map(); // the loudness of bands in each beat of each part
    const { levels, level_counts: counts } = model.tables;
    const bands = levels.length / sum([...counts]);
    let place = 0;
    counts.forEach((beats, part) => { if (beats) this.curves.set(part, Array.from({ length: beats }, () => levels.subarray(place, (place += bands)))); });
    this.loudness_at = []; // the loudness at the beats of `frames` and at their end
    [this.partOf, this.part] = [options.partOf, null]; // partOf: the number of a section's part. part: that of this section, or null
  }

  draw(stream, number) { return uniforms(this.seed, 0, this.level, number, 1, stream)[0]; }

  /** Draw the tempo, and compose the upbeat. The piece begins with a note that another note soon follows. */
  async begin() {
    this.chosenTempo = quantile(this.tempi, this.draw(this.tempo, 0));
    for (;;) {
      await this.sample();
      const begin = this.perBlock * (this.blocks - 1 - this.soon);
      const struck = this.frames.slice(Math.max(0, begin)).map((frame) => frame.some((code) => code >= this.struck));
      const first = struck.slice(0, this.perBlock).indexOf(true);
      const sounds = first >= 0 && struck.slice(this.perBlock).includes(true);
      if (this.blocks >= this.upbeat + this.soon && (sounds || this.blocks > this.longest_upbeat)) {
        const start = this.times[begin + Math.max(0, first)];
        this.times = this.times.map((time) => time - start);
        this.sections = this.sections.map((first) => Math.max(first, begin)); // a return begins with what was heard
        this.marks = this.marks.filter((mark) => mark.start >= begin);
        for (const plan of [this, ...this.marks]) if (plan.theme >= 0) plan.theme = Math.max(plan.theme, begin);
        return;
      }
    }
  }

  async compose(sample) {
    if (!this.chosenTempo) await this.begin();
    while (this.times.at(-1) < sample) await this.sample();
  }

  /** Compose one beat. given: the codes of its first steps, which are performed already. */
  async sample(given = []) {
    const { stop: start, perBlock, steering, theme, began, until, previous, memory, line } = this;
    this.marks.push({ start, request: steering.section, count: this.sections.length, theme, began, until, previous, memory, line });
    this.planSection();
    this.part = this.partOf?.(this.section) ?? null;
    if (!this.loudness_at.length) this.loudness_at.push(this.swell(this.blocks));
    const beat = [];
    for (let i = 0; i < perBlock; i++) { // each step has a bias of its own
      const [frames] = await this.run(this.draws(start + i, 1), null, given[i], this.bias(start + i));
      beat.push(...frames);
    }
    this.frames.push(...beat);
    if (!given.length) this.loudness_at.push(this.swell(this.blocks));
    const step = (60 * this.rate) / (steering.tempo || this.chosenTempo) / perBlock;
    const begin = this.times.at(-1) - rint(step * given.length);
    for (let i = given.length + 1; i <= perBlock; i++) this.times.push(begin + rint(step * i));
  }

  /** The first step that a change still reaches, where samples before `sample` are performed (`play/marks.py`). */
  firstOpen(sample) { return clip(this.first + this.times.findLastIndex((time) => time < sample) + 1, this.landed, this.stop); }

  /** The first step of the next bar that a change still reaches; null if no such bar is composed. */
  nextBar(sample) {
    const bar = 4 * this.perBlock;
    const step = this.began + bar * Math.ceil((this.firstOpen(sample) - this.began) / bar);
    return step > this.stop ? null : step;
  }

  /** Compose again, as many as there are, the steps from the first on that a change still reaches. Earlier steps of its beat stay. */
  async composeAgain(sample) {
    const { stop, perBlock, steering, marks } = this;
    const first = this.firstOpen(sample);
    if (first >= stop) return;
    const given = first % perBlock;
    const undone = marks.splice(marks.findIndex(({ start }) => start === first - given));
    const [{ start, request, count, ...known }] = undone;
    // A section that was requested, and begins later, is requested again.
    const section = steering.section || (undone.slice(given ? 1 : 0).findLast((mark) => mark.request)?.request ?? "");
    const place = start - this.first;
    const codes = this.frames.splice(place).slice(0, given);
    this.times.splice(place + given + 1);
    this.loudness_at.splice(place / perBlock + (given ? 2 : 1));
    this.sections.splice(count);
    Object.assign(this, known);
    steering.section = request;
    if (given) await this.sample(codes);
    steering.section = section;
    while (this.stop < stop) await this.sample();
  }

  /** The number of this section's music; a return has the number of its theme. */
  get section() { return this.theme >= 0 ? this.sections.indexOf(this.theme) : Math.max(0, this.sections.length - 1); }

  /** At the end of a section, draw the next: new music, or a section that comes back. */
  planSection() {
    const [{ steering, stop }, number] = [this, 3 * this.blocks];
    const choose = (i, list) => list[Math.floor(list.length * this.draw(this.plan, number + i))];
    const length = this.perBlock * choose(0, this.section_beats);
    const earlier = this.sections.filter((first) => first >= this.first && first + length <= stop);
    const request = earlier.length || steering.section !== "theme" ? steering.section : "";
    if (stop < this.until && !request) return;
    if (request) steering.section = ""; // a theme that is not old enough stays requested
    const returns = request ? request === "theme" : this.draw(this.plan, number + 1) < this.returns;
    this.theme = earlier.length && returns ? (request ? earlier[0] : choose(2, earlier)) : -1;
    if (this.theme < 0) this.sections.push(stop);
    [this.began, this.until] = [stop, stop + length];
  }

  /** The density of the section, log-uniform in its range. A return has that of its theme. */
  get sectionDensity() {
    const [least, most] = this.section_densities;
    return least * (most / least) ** this.draw(this.density_draw, this.section);
  }

  /** The hash of a run of notes, [step, book] each (`data/melody.py`). */
  hash(notes) {
    const move = ([from, low], [to, high]) => high - low + 128 + 256 * Math.min(to - from, 255);
    return notes.slice(1).reduce((hash, note, i) => (Math.imul(hash, this.base) + move(notes[i], note)) >>> 0, 0);
  }

  /** What brings the strikes of this section to the spread of its part: for each kind of strike (`play/spreads.py`). */
  spread(name, strikes) {
    const { part, model: { tables } } = this;
    const [shares, blur, kinds] = [tables[`${name}_shares`], tables[`${name}_blur`], strikes.length];
    const row = (number) => Array.from(shares.subarray(number * kinds, (number + 1) * kinds));
    const [target, usual] = [row(part), row(shares.length / kinds - 1)];
    const heard = target.map((share, kind) => sum(strikes.map((count, from) => count * blur[from * kinds + kind])) + this.awaited * share);
    const all = sum(heard);
    const pull = target.map((share, kind) => Math.log(share / usual[kind]));
    const lacks = target.map((share, kind) => clip(Math.log(share / (heard[kind] / all)), -this.most_moved, this.most_moved));
    const weigh = (values, weights) => sum(values.map((value, kind) => value * weights[kind]));
    const [pulled, moved] = [weigh(pull, usual), weigh(lacks, heard.map((share) => share / all))];
    const bias = target.map((_, kind) => this.pull * (pull[kind] - pulled) + lacks[kind] - moved);
    if (name === "registers") return bias;
    const odds = sum(bias.map((value, kind) => (heard[kind] / all) * Math.exp(value))); // a strike has one loudness
    return bias.map((value) => value - Math.log(odds));
  }

  /** The bias on strikes of each pitch class in a key. strikes: the last strikes of each class (`key_bias` in `play/score.py`). */
  keyBias(key, strikes) {
    const heard = key.map((share, pitch) => share && strikes[pitch] + this.key_awaited * share);
    return key.map((share, pitch) => (share ? Math.log((share * sum(heard)) / heard[pitch]) : -this.outside));
  }

  /** The share of each pitch class at a step: in the bar's chord, else in the key. */
  keyAt(step) {
    const { began, perBlock, steering: { key, chords } } = this;
    const bar = Math.floor((step - began) / (4 * perBlock));
    return chords.length ? chords[bar % chords.length] : key;
  }

  /** What is added to the logits of a step: density, the key, the theme that comes back, and what may not copy a training track.
   *  Strikes count up to this beat, the top line up to this step. */
  bias(step) {
    const { steering, struck, books, pitched, codes } = this;
    const strike = new Float32Array(books); // the bias of all strikes of a book
    const [usual, density] = [this.strikes, steering.density * this.sectionDensity];
    const [expected, logDensity] = [usual * density, Math.log(density)];
    const strikes = (steps) => Array.from({ length: books }, (_, book) => sum(this.frames.slice(-steps).map((frame) => Number(frame[book] >= struck))));
    const governed = (from, to, steps, mean, least, most) => {
      // As if the steps that are not there yet had been as expected.
      const rate = (sum(strikes(steps).slice(from, to)) + mean * Math.max(0, steps - this.frames.length)) / steps;
      const push = this.governor * Math.log(clip(rate, least, most) / Math.max(rate, mean / steps));
      return Math.min(push, this.most_pushed / clip(this.sampling.temperature, this.safest, 1));
    };
    const temperature = Math.max(this.sampling.temperature, this.coldest);
    // Strikes are as likely as if they had one code (`ScoreLevel._temperature_correction`).
    const unsplit = -temperature * Math.log(sum(this.loudness.map((share) => share ** (1 / temperature))));
    const gain = logDensity + unsplit + governed(0, pitched, this.governed, expected, expected * (steering.chords.length ? this.density_in_chords : this.density[0]), expected * this.density[1]);
    const attack = this.attacks_by_density * logDensity
      + governed(pitched, books, this.attacked, usual, usual * this.least_attacks, Infinity);
    strike.fill(attack, pitched);
    const top = this.previous.subarray(0, pitched).findLastIndex((code) => code >= struck && code < codes);
    if (top >= 0) this.line = [...this.line, [step - 1, top]].slice(-this.order);
    const counts = strikes(this.watched).slice(0, pitched);
    const all = Math.max(1, sum(counts), (expected * this.watched) / 2);
    const section = this.part === null ? null : this.frames.slice(Math.max(0, this.began - this.first)).slice(-this.watched);
    const count = (kinds, strikesOf) => Array.from({ length: kinds }, (_, kind) => sum(section.map((frame) => strikesOf(frame.subarray(0, pitched), kind))));
    const registers = section && this.spread("registers", count(pitched, (frame, book) => Number(frame[book] >= struck)));
    const ofLoudness = (frame, kind) => frame.filter((code) => code === struck + kind).length;
    const louder = section && Float32Array.from(this.spread("loudness", count(codes - struck, ofLoudness)));
    const pitchOf = (book) => (book + this.lowest) % 12;
    const key = this.keyAt(step);
    const byPitch = key.map((_, pitch) => sum(counts.filter((_, book) => pitchOf(book) === pitch)));
    const ofKey = this.keyBias(key, byPitch); // empty: any key
    counts.forEach((number, book) => {
      strike[book] = gain;
      strike[book] -= this.overuse * Math.log(Math.max(number / all / this.most_share, 1));
      if (ofKey.length) strike[book] += ofKey[pitchOf(book)];
      if (registers) strike[book] += registers[book];
    });
    const bias = new Float32Array(codes * books);
    const add = (book, code, value) => { // to one code, or to the strikes of each loudness
      const [first, end] = code < struck ? [code, code + 1] : [struck, codes];
      for (let other = first; other < end; other++) bias[codes * book + other] += value;
    };
    strike.forEach((value, book) => add(book, struck, value));
    for (let book = 0; louder && book < pitched; book++) louder.forEach((value, i) => (bias[codes * book + struck + i] += value));
    const theme = this.theme >= 0 && this.frames[step - this.began + this.theme - this.first];
    if (theme) theme.forEach((code, book) => add(book, code, this.recall));
    for (let book = 0; book < pitched; book++) if (this.line.length === this.order && this.known.has(this.hash([...this.line, [step, book]]))) add(book, struck, -this.banned);
    return bias;
  }

  /** The place of a sample: the step that sounds, counted from the first that is remembered, and a share of it; −1: none. */
  placeOf(sample) {
    const { times } = this;
    const step = times.findLastIndex((time) => time <= sample);
    return step < 0 || step === times.length - 1 ? step : step + (sample - times[step]) / (times[step + 1] - times[step]);
  }

  /** The score of `rows` frames of `frame` samples from sample `begin` on: for each book 0 or 1 + its age + `ages` · its loudness, then the phase. */
  async inFrames(begin, rows, frame) {
    await this.compose(begin + rows * frame);
    return Int32Array.from(Array.from({ length: rows }, (_, i) => begin + frame * (i + 1)).flatMap((end) => {
      const step = Math.floor(this.placeOf(end - 1));
      const heard = end > 0 && step >= 0 && step < this.frames.length; // nothing is heard of the upbeat
      const ages = Array.from({ length: this.books }, (_, book) => (heard ? this.age(book, step, Math.floor((end - 1) / frame), frame) : 0));
      const beats = (this.first + Math.max(0, this.placeOf(end - frame / 2))) / this.steps_per_beat;
      return [...ages, Math.floor((beats % 1) * this.phases), ...this.loudnessOf(beats - this.first / this.steps_per_beat)];
    }));
  }

  /** The loudness of bands in beat number `beat`: a stretch of the part's curve, there and back (`play/spreads.py`). */
  swell(beat) {
    let [curve, chance] = [this.curves.get(this.part), this.draw(this.loudness_draw, this.section)];
    if (!curve) {
      const place = chance * this.curves.size;
      [curve, chance] = [[...this.curves.values()][Math.floor(place)], place % 1];
    }
    const last = curve.length - 1;
    const place = (Math.floor(chance * curve.length) + beat - this.began / this.steps_per_beat) % Math.max(1, 2 * last);
    return curve[Math.min(place, 2 * last - place)];
  }

  /** The loudness of bands at a place in beats from the first that is remembered, in whole dB above the quietest. */
  loudnessOf(beats) {
    const [beat, share] = [Math.min(Math.floor(beats), this.loudness_at.length - 1), beats % 1];
    const [before, after] = [this.loudness_at[beat], this.loudness_at[Math.min(beat + 1, this.loudness_at.length - 1)]];
    return Array.from(before, (value, i) => rint(Math.max(0, value + (after[i] - value) * share - this.quietest)));
  }

  /** 0 where a book is silent, or 1 + the frames since it was struck, in frame number `at`, in which a step sounds. */
  age(book, step, at, frame) {
    if (book < this.pitched && !this.frames[step][book]) return 0;
    let [age, struck] = [0, step];
    for (; struck >= 0 && (book < this.pitched || age <= this.oldest); struck--) {
      age = at - Math.floor(this.times[struck] / frame);
      if (this.frames[struck][book] >= this.struck) break;
    }
    const loudness = book < this.pitched ? Math.max(0, this.frames[Math.max(0, struck)][book] - this.struck) : 0;
    return book < this.pitched || (struck >= 0 && age < this.ringing) ? 1 + clip(age, 0, book < this.pitched ? this.sustained : this.oldest) + this.ages * loudness : 0;
  }

  /** Forget the steps before a sample, but for those of the last half hour. */
  forget(sample) {
    const step = Math.floor(this.placeOf(Math.min(sample, this.times.at(-1) - this.kept * this.rate)));
    const gone = step - (step % this.steps_per_beat);
    this.trim(this.first + gone);
    this.times.splice(0, gone);
    this.loudness_at.splice(0, gone / this.steps_per_beat);
    const sounding = this.first + this.placeOf(sample);
    this.marks = this.marks.filter(({ start }) => start + this.perBlock > sounding);
  }

  /** The tempo, [sample after `begin`, place in the bar] of each beat from there on, and the section that is composed. */
  form(begin) {
    const { times, steps_per_beat: each, first, began, steering } = this;
    const beats = times.map((time, step) => [time - begin, ((((step + first - began) / each) % 4) + 4) % 4]).filter(([time, place]) => time >= 0 && place % 1 === 0);
    return { tempo: steering.tempo || this.chosenTempo, beats, section: { second: times[Math.max(0, began - first)] - begin, number: this.section, returns: this.theme >= 0 } };
  }

  /** The notes struck from sample `begin` on and before `end`: [first sample after `begin`, samples, MIDI number]. */
  notes(begin, end) {
    const { frames, times, pitched } = this;
    const notes = [];
    for (let step = Math.floor(this.placeOf(begin - 1)) + 1; step < frames.length && times[step] < end; step++) {
      for (let book = 0; book < pitched; book++) {
        let stop = step + 1;
        while (frames[stop]?.[book] === this.sounding) stop += 1;
        if (frames[step][book] >= this.struck) notes.push([times[step] - begin, times[stop] - times[step], book + this.lowest]);
      }
    }
    return notes;
  }
}
