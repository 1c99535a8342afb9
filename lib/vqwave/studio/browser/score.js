// The score at work: composes beat by beat, ahead of the level that performs it (`play/score.py`).

import { Level } from "./level.js";
import { uniforms } from "./philox.js";

/** The nearest whole number, the even one of two. */
const rint = (x) => (x % 1 === 0.5 || x % 1 === -0.5 ? 2 * Math.round(x / 2) : Math.round(x));
const clip = (x, least, most) => Math.min(Math.max(x, least), most);

/** How many of the rising `values` are at most x, or with `before` less than x. */
function count(values, x, before = false) {
  let [low, high] = [0, values.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (before ? values[middle] < x : values[middle] <= x) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Positions are steps. times: the sample at which each step begins, and the end of the last. */
export class ScoreLevel extends Level {
  constructor(model, about, seed, steering) {
    super(model, { ...about, block: model.level * about.score.steps_per_beat }, seed, steering);
    Object.assign(this, about.score, { rate: about.rate, times: [0], tempo: 0, sections: [], theme: -1, began: 0, until: 0, skips: false });
    this.pitched = this.books - this.bands; // the books before those of attacks
  }

  draw(stream, number) {
    return uniforms(this.seed, 0, this.level, number, 1, stream)[0];
  }

  strikes(step) {
    return this.frames[step - this.first].includes(this.struck);
  }

  /** Draw the tempo, and compose the upbeat: the first sound of the piece is the first note of its last beat. */
  async begin() {
    const [slow, fast] = this.tempi;
    const beat = this.steps_per_beat;
    const last = () => Array.from({ length: beat }, (_, i) => this.strikes(this.stop - beat + i));
    this.tempo = slow * (fast / slow) ** this.draw(this.draws_of.tempo, 0);
    while (this.blocks < this.upbeat || (this.blocks < this.longest_upbeat && !last().includes(true))) await this.sample();
    const first = this.times[this.stop - beat + Math.max(0, last().indexOf(true))];
    this.times = this.times.map((time) => time - first);
  }

  async compose(sample) {
    if (!this.tempo) await this.begin();
    while (this.times.at(-1) < sample) await this.sample();
  }

  /** Compose one beat. */
  async sample() {
    this.plan();
    await super.sample(null);
    const step = (60 * this.rate) / (this.steering.tempo || this.tempo) / this.steps_per_beat;
    const end = this.times.at(-1);
    for (let i = 1; i <= this.steps_per_beat; i++) this.times.push(end + rint(step * i));
  }

  /** Each step by itself, since each has a bias of its own. The bias counts the strikes up to this beat. */
  async runBlock(context, forced) {
    const [start, steps] = [this.stop, []];
    for (let i = 0; i < this.perBlock; i++) {
      const given = forced && forced.slice(i * this.books, (i + 1) * this.books);
      steps.push(await this.run(this.draws(start + i, 1), null, this.state, given, this.biasOf(start + i)));
    }
    for (const step of steps) this.append(...step);
  }

  /** At the end of a section, draw the next: new music, or a section that comes back. */
  plan() {
    const { steering, stop } = this;
    if (stop < this.until && !steering.section) return;
    const [request, number] = [steering.section, 3 * this.blocks];
    steering.section = "";
    const drawn = (i, most) => Math.floor(most * this.draw(this.draws_of.plan, number + i));
    const length = this.steps_per_beat * this.section_beats[drawn(0, this.section_beats.length)];
    const earlier = this.sections.filter((first) => first >= this.first && first + length <= stop);
    const returns = this.draw(this.draws_of.plan, number + 1) < this.returns;
    if (earlier.length && (request === "theme" || (returns && !request))) this.theme = earlier[request ? 0 : drawn(2, earlier.length)];
    else {
      this.theme = -1;
      this.sections.push(stop);
    }
    [this.began, this.until] = [stop, stop + length];
  }

  /** What is added to the logits of a step: density, the key, and the theme that comes back. */
  biasOf(step) {
    const { steering, struck, books, pitched, governed } = this;
    const bias = new Float32Array(3 * books);
    const expected = this.model.strikes * steering.density;
    const recent = this.frames.slice(-governed);
    const strikes = recent.reduce((sum, frame) => sum + frame.subarray(0, pitched).filter((code) => code === struck).length, 0);
    const rate = (strikes + expected * (governed - recent.length)) / governed;
    const allowed = clip(rate, ...this.density.map((share) => expected * share));
    const gain = Math.log(steering.density) + this.governor * Math.log(allowed / Math.max(rate, expected / governed));
    const scale = new Set(steering.scale);
    for (let book = 0; book < pitched; book++) {
      bias[3 * book + struck] = gain;
      if (scale.size && !scale.has((book + this.lowest) % 12)) bias[3 * book + struck] -= this.outside;
    }
    const theme = this.theme >= 0 && this.frames[step - this.began + this.theme - this.first];
    if (theme) theme.forEach((code, book) => (bias[3 * book + code] += this.recall));
    return bias;
  }

  /** The score of `rows` frames of `frame` samples from sample `begin` on: for each book 0 or 1 + its age, then the phase. */
  async inFrames(begin, rows, frame) {
    await this.compose(begin + rows * frame);
    const { times, frames, books } = this;
    const values = new Int32Array(rows * (books + 1));
    const ends = Array.from({ length: rows }, (_, i) => begin + frame * (i + 1));
    const steps = ends.map((end) => count(times, end - 1) - 1);
    const inside = steps.filter((step) => step >= 0 && step < frames.length);
    const oldest = Math.max(0, Math.min(...inside, Infinity) - this.looked_back);
    ends.forEach((end, i) => {
      const row = values.subarray(i * (books + 1), (i + 1) * (books + 1));
      row[books] = Math.floor(this.phase(end - frame / 2) * this.phases);
      if (end <= 0 || steps[i] < 0 || steps[i] >= frames.length) return; // nothing is heard of the upbeat
      for (let book = 0; book < books; book++) row[book] = this.age(book, steps[i], oldest, Math.floor((end - 1) / frame), frame);
    });
    return values;
  }

  age(book, step, oldest, at, frame) {
    let struck = step;
    while (struck >= oldest && this.frames[struck][book] !== this.struck) struck -= 1;
    const age = at - Math.floor(this.times[Math.max(struck, oldest)] / frame);
    const sounds = book < this.pitched ? this.frames[step][book] > 0 : struck >= oldest && age < this.ringing;
    return sounds ? 1 + clip(age, 0, this.oldest) : 0;
  }

  /** The place of a sample within its beat, from 0 to 1. */
  phase(sample) {
    const { times } = this;
    const at = clip(count(times, sample) - 1, 0, times.length - 2);
    const share = clip((sample - times[at]) / (times[at + 1] - times[at]), 0, 1);
    const beats = (this.first + at + share) / this.steps_per_beat;
    return beats - Math.floor(beats);
  }

  /** Forget the steps before a sample, but for those of the last half hour. */
  forget(sample) {
    let gone = count(this.times, Math.min(sample, this.times.at(-1) - this.kept * this.rate)) - 1;
    gone -= gone % this.steps_per_beat;
    if (gone <= 0) return;
    this.trim(this.first + gone);
    this.times.splice(0, gone);
  }

  /** The notes struck from sample `begin` on and before `end`: [first sample, sample after the last, MIDI number]. */
  notes(begin, end) {
    const notes = [];
    for (let step = count(this.times, begin, true); step < Math.min(count(this.times, end, true), this.frames.length); step++) {
      for (let book = 0; book < this.pitched; book++) {
        if (this.frames[step][book] !== this.struck) continue;
        let stop = step + 1;
        while (stop < this.frames.length && this.frames[stop][book] === this.sounding) stop += 1;
        notes.push([this.times[step], this.times[stop], book + this.lowest]);
      }
    }
    return notes;
  }
}
