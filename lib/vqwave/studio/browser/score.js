// The score at work: composes beat by beat, ahead of the level that performs it (`play/score.py`).

import { Level, clip, sum } from "./level.js";
import { uniforms } from "./philox.js";

/** The nearest whole number, the even one of two. */
const rint = (x) => (Math.abs(x % 1) === 0.5 ? 2 * Math.round(x / 2) : Math.round(x));

/** Positions are steps. times: the sample at which each step begins, and the end of the last. */
export class ScoreLevel extends Level {
  constructor(model, about, seed, steering, options) {
    super(model, { ...about, block: model.level * about.score.steps_per_beat }, seed, steering, options);
    Object.assign(this, about.score, { rate: about.rate, times: [0], chosenTempo: 0, sections: [], theme: -1, began: 0, until: 0 });
    Object.assign(this, { skips: false, chunk: 1 }); // each step by itself, since each has a bias of its own
    this.pitched = this.books - this.bands; // the books before those of attacks
    this.line = []; // the step and the book of the last notes of the top line
    this.known = new Set(new Uint32Array(model.tables.ngrams.buffer));
    [this.partOf, this.part] = [options.partOf, null]; // partOf: the number of a section's part. part: that of this section, or null
  }

  draw(stream, number) {
    return uniforms(this.seed, 0, this.level, number, 1, stream)[0];
  }

  /** Draw the tempo, and compose the upbeat. The piece begins with a note that another note soon follows. */
  async begin() {
    const [slow, fast] = this.tempi;
    this.chosenTempo = slow * (fast / slow) ** this.draw(this.tempo, 0);
    for (;;) {
      await this.sample();
      const begin = this.perBlock * (this.blocks - 1 - this.soon);
      const struck = this.frames.slice(Math.max(0, begin)).map((frame) => frame.includes(this.struck));
      const first = struck.slice(0, this.perBlock).indexOf(true);
      const sounds = first >= 0 && struck.slice(this.perBlock).includes(true);
      if (this.blocks >= this.upbeat + this.soon && (sounds || this.blocks > this.longest_upbeat)) {
        const start = this.times[begin + Math.max(0, first)];
        this.times = this.times.map((time) => time - start);
        this.sections = this.sections.map((first) => Math.max(first, begin)); // a return begins with what was heard
        return;
      }
    }
  }

  async compose(sample) {
    if (!this.chosenTempo) await this.begin();
    while (this.times.at(-1) < sample) await this.sample();
  }

  /** Compose one beat. */
  async sample() {
    this.planSection();
    this.part = this.partOf?.(this.section) ?? null;
    await super.sample(null);
    const step = (60 * this.rate) / (this.steering.tempo || this.chosenTempo) / this.perBlock;
    const end = this.times.at(-1);
    for (let i = 1; i <= this.perBlock; i++) this.times.push(end + rint(step * i));
  }

  /** The number of this section's music; a return has the number of its theme. */
  get section() {
    return this.theme >= 0 ? this.sections.indexOf(this.theme) : Math.max(0, this.sections.length - 1);
  }

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

  /** What brings the strikes of this section to the registers of its part, for each semitone (`play/registers.py`). */
  registers() {
    const { pitched, part, model: { tables: { shares, blur } } } = this;
    const row = (number) => Array.from(shares.subarray(number * pitched, (number + 1) * pitched));
    const [target, usual] = [row(part), row(shares.length / pitched - 1)];
    const section = this.frames.slice(Math.max(0, this.began - this.first)).slice(-this.watched);
    const counts = target.map((_, book) => sum(section.map((frame) => Number(frame[book] === this.struck))));
    const heard = target.map((share, book) => sum(counts.map((count, from) => count * blur[from * pitched + book])) + this.awaited * share);
    const all = sum(heard);
    const pull = target.map((share, book) => Math.log(share / usual[book]));
    const lacks = target.map((share, book) => clip(Math.log(share / (heard[book] / all)), -this.most_moved, this.most_moved));
    const weigh = (values, weights) => sum(values.map((value, book) => value * weights[book]));
    const [pulled, moved] = [weigh(pull, usual), weigh(lacks, heard.map((share) => share / all))];
    return target.map((_, book) => this.pull * (pull[book] - pulled) + lacks[book] - moved);
  }

  /** What is added to the logits of a step: density, the key, the theme that comes back, and what may not copy a training track.
   *  Strikes count up to this beat, the top line up to this step. */
  bias(step) {
    const { steering, struck, books, pitched } = this;
    const bias = new Float32Array(3 * books);
    const usual = this.expected * this.strikes;
    const density = steering.density * this.sectionDensity;
    const [expected, logDensity] = [usual * density, Math.log(density)];
    const strikes = (steps) => Array.from({ length: books }, (_, book) => sum(this.frames.slice(-steps).map((frame) => Number(frame[book] === struck))));
    const governed = (from, to, steps, mean, least, most) => {
      // As if the steps that are not there yet had been as expected.
      const rate = (sum(strikes(steps).slice(from, to)) + mean * Math.max(0, steps - this.frames.length)) / steps;
      const push = this.governor * Math.log(clip(rate, least, most) / Math.max(rate, mean / steps));
      return Math.min(push, this.most_pushed / clip(this.sampling.temperature, this.safest, 1));
    };
    const gain = logDensity + governed(0, pitched, this.governed, expected, ...this.density.map((share) => expected * share));
    const attack = this.attacks_by_density * logDensity
      + governed(pitched, books, this.attacked, usual, usual * this.least_attacks, Infinity);
    for (let book = pitched; book < books; book++) bias[3 * book + struck] = attack;
    const top = this.previous.subarray(0, pitched).lastIndexOf(struck);
    if (top >= 0) this.line = [...this.line, [step - 1, top]].slice(-this.order);
    const copies = (book) => this.line.length === this.order && this.known.has(this.hash([...this.line, [step, book]]));
    const counts = strikes(this.watched).slice(0, pitched);
    const all = Math.max(1, sum(counts), (expected * this.watched) / 2);
    const registers = this.part === null ? null : this.registers();
    counts.forEach((count, book) => {
      const at = 3 * book + struck;
      bias[at] = gain;
      bias[at] -= this.overuse * Math.log(Math.max(count / all / this.most_share, 1));
      if (registers) bias[at] += registers[book];
      if (steering.scale.length && !steering.scale.includes((book + this.lowest) % 12)) bias[at] -= this.outside;
      if (copies(book)) bias[at] = -this.banned;
    });
    const theme = this.theme >= 0 && this.frames[step - this.began + this.theme - this.first];
    if (theme) theme.forEach((code, book) => (bias[3 * book + code] += this.recall));
    return bias;
  }

  /** The place of a sample: the step that sounds, counted from the first that is remembered, and a share of it; −1: none. */
  placeOf(sample) {
    const { times } = this;
    let step = times.length - 1;
    while (step >= 0 && times[step] > sample) step -= 1;
    return step < 0 || step === times.length - 1 ? step : step + (sample - times[step]) / (times[step + 1] - times[step]);
  }

  /** The score of `rows` frames of `frame` samples from sample `begin` on: for each book 0 or 1 + its age, then the phase. */
  async inFrames(begin, rows, frame) {
    await this.compose(begin + rows * frame);
    return Int32Array.from(Array.from({ length: rows }, (_, i) => begin + frame * (i + 1)).flatMap((end) => {
      const step = Math.floor(this.placeOf(end - 1));
      const heard = end > 0 && step >= 0 && step < this.frames.length; // nothing is heard of the upbeat
      const ages = Array.from({ length: this.books }, (_, book) => (heard ? this.age(book, step, Math.floor((end - 1) / frame), frame) : 0));
      const beats = (this.first + Math.max(0, this.placeOf(end - frame / 2))) / this.steps_per_beat;
      return [...ages, Math.floor((beats % 1) * this.phases)];
    }));
  }

  /** 0 where a book is silent, or 1 + the frames since it was struck, in frame number `at`, in which a step sounds. */
  age(book, step, at, frame) {
    if (book < this.pitched && !this.frames[step][book]) return 0;
    let [age, struck] = [0, step];
    for (; struck >= 0 && age <= this.oldest; struck--) {
      age = at - Math.floor(this.times[struck] / frame);
      if (this.frames[struck][book] === this.struck) break;
    }
    return book < this.pitched || (struck >= 0 && age < this.ringing) ? 1 + clip(age, 0, this.oldest) : 0;
  }

  /** Forget the steps before a sample, but for those of the last half hour. */
  forget(sample) {
    const step = Math.floor(this.placeOf(Math.min(sample, this.times.at(-1) - this.kept * this.rate)));
    const gone = step - (step % this.steps_per_beat);
    this.trim(this.first + gone);
    this.times.splice(0, gone);
  }

  /** The notes struck from sample `begin` on and before `end`: [first sample after `begin`, samples, MIDI number]. */
  notes(begin, end) {
    const { frames, times, pitched } = this;
    const notes = [];
    for (let step = Math.floor(this.placeOf(begin - 1)) + 1; step < frames.length && times[step] < end; step++) {
      for (let book = 0; book < pitched; book++) {
        let stop = step + 1;
        while (frames[stop]?.[book] === this.sounding) stop += 1;
        if (frames[step][book] === this.struck) notes.push([times[step] - begin, times[stop] - times[step], book + this.lowest]);
      }
    }
    return notes;
  }
}
