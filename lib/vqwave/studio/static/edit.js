// Edits of the composed notes in the picture: click a note away or in, drag it, draw bars again, loop them.

import { byId } from "./dom.js";
import { drawScore, ink, pitchAt } from "./pictures.js";

const NEW = 2; // steps of a new note, a quarter of a beat each
const EDGE = 0.07; // the share of the picture at the lower edge in which a drag selects bars
const SOON = 600; // milliseconds without another edit, after which the take is made again
const NONE = { removed: [], added: [], redrawn: [] };

export class Edit {
  constructor(player) {
    Object.assign(this, { player, edits: NONE, bars: null, drag: null });
    const acts = { edit: () => this.turn(!this.on), "bar-here": () => this.selectNext(), redraw: () => this.redraw(), loop: () => this.loop(!player.sound.loop) };
    for (const [id, act] of Object.entries(acts)) byId(id).addEventListener("click", act);
    player.picture.addEventListener("pointercancel", () => (this.drag = null));
    for (const kind of ["pointerdown", "pointermove", "pointerup"]) player.picture.addEventListener(kind, (event) => this.on && this[kind](event));
  }

  turn(on) {
    this.on = on;
    byId("edit").setAttribute("aria-pressed", String(on));
    byId("edits").hidden = !on;
    this.player.picture.classList.toggle("edited", on);
    if (!on) this.select(null);
  }

  /** Take over the edits of a take. kept: the take that played was made again. */
  begin(take, kept) {
    this.edits = { ...NONE, ...take.edits };
    if (!kept) this.select(null);
  }

  allow(possible) {
    byId("edit").hidden = !possible;
    if (!possible && this.on) this.turn(false);
  }

  beatAt(second) { return Math.max(0, this.beats.findLastIndex(([begin]) => begin <= second + 0.005)); }
  get beats() { return this.player.beats.beats; }

  lasts(i) {
    const j = Math.min(i, this.beats.length - 2);
    return this.beats[j + 1][0] - this.beats[j][0];
  }

  stepAt(second) {
    const i = this.beatAt(second);
    return 4 * this.beats[i][2] + Math.min(3, Math.max(0, Math.floor((4 * (second - this.beats[i][0])) / this.lasts(i) + 0.03)));
  }

  secondOf(step) {
    const i = Math.min(this.beats.length - 1, Math.max(0, Math.floor(step / 4) - this.beats[0][2]));
    return this.beats[i][0] + ((step / 4 - this.beats[i][2]) * this.lasts(i));
  }

  /** The place of a pointer: {second, midi, low}. */
  placeOf({ offsetX, offsetY }) {
    const { picture, take } = this.player;
    return { second: this.player.secondAt(offsetX), midi: pitchAt(offsetY / picture.clientHeight, take), low: offsetY > (1 - EDGE) * picture.clientHeight };
  }

  noteAt({ second, midi }) {
    const near = this.player.score.filter(([begin, seconds, pitch]) => Math.abs(pitch - midi) <= 1 && begin <= second && second <= begin + Math.max(seconds, 0.1));
    return near.sort((a, b) => Math.abs(a[2] - midi) - Math.abs(b[2] - midi))[0];
  }

  pointerdown(event) {
    if (this.beats.length < 2) return;
    const place = this.placeOf(event);
    this.player.picture.setPointerCapture(event.pointerId);
    const note = this.noteAt(place);
    const step = this.stepAt(place.second);
    if ((place.low && !note) || event.shiftKey) this.drag = { from: place.second, bars: true };
    else if (note) this.drag = { note, place, step: this.stepAt(note[0]), row: note };
    else this.drag = { place, step, steps: NEW, row: this.rowOf(step, NEW, place.midi) };
    this.pointermove(event);
  }

  pointermove(event) {
    const { drag } = this;
    if (!drag) return;
    const { second, midi } = this.placeOf(event);
    if (drag.bars) this.select(this.barsBetween(drag.from, second));
    else if (drag.note) {
      const [later, higher] = [this.stepAt(second) - this.stepAt(drag.place.second), midi - drag.place.midi];
      drag.to = later || higher ? [Math.max(0, drag.step + later), drag.note[2] + higher] : null;
      drag.row = drag.to ? this.rowOf(drag.to[0], this.stepsOf(drag.note), drag.to[1]) : drag.note;
    } else {
      drag.steps = Math.max(NEW, this.stepAt(second) - drag.step + 1);
      drag.row = this.rowOf(drag.step, drag.steps, drag.place.midi);
    }
    this.player.dirty = true;
  }

  pointerup() {
    const { drag, player, edits: { removed, added } } = this;
    this.drag = null;
    if (!drag || drag.bars) return;
    const { note } = drag;
    const others = note ? added.filter(([step, midi]) => step !== drag.step || midi !== note[2]) : added;
    const change = { added: others, removed: note && others.length === added.length ? [...removed, [drag.step, note[2]]] : removed };
    if (note) player.score = player.score.filter((row) => row !== note);
    if (drag.to) change.added = [...others, [...drag.to, this.stepsOf(note)]];
    else if (!note) change.added = [...others, [drag.step, drag.place.midi, drag.steps]];
    if (drag.to || !note) player.score = [...player.score, drag.row].sort((a, b) => a[0] - b[0]);
    this.make(change, drag.step);
  }

  rowOf(step, steps, midi) { return [this.secondOf(step), this.secondOf(step + steps) - this.secondOf(step), midi]; }
  stepsOf([second, seconds]) { return Math.max(1, this.stepAt(second + seconds - 0.01) - this.stepAt(second) + 1); }

  /** The bars that sound from one second to another: {begin, end} in seconds, and steps {first, steps}. */
  barsBetween(from, to) {
    const bars = this.beats.filter(([, place]) => place === 0);
    const first = bars.findLast(([second]) => second <= Math.min(from, to)) ?? this.beats[0];
    const last = bars.find(([second]) => second > Math.max(from, to)) ?? this.beats.at(-1);
    return { begin: first[0], end: last[0], first: 4 * first[2], steps: 4 * (last[2] - first[2]) };
  }

  select(bars) {
    this.bars = bars?.steps ? bars : null;
    for (const id of ["redraw", "loop"]) byId(id).disabled = !this.bars;
    const { sound } = this.player;
    if (sound?.loop) this.loop(Boolean(this.bars));
    this.player.dirty = true;
  }

  /** Select the bar that is heard; if bars are selected, the next bar, too. */
  selectNext() {
    const { sound, take } = this.player;
    const now = sound.position / take.rate;
    if (this.beats.length > 1) this.select(this.bars ? this.barsBetween(this.bars.begin, this.bars.end + 0.01) : this.barsBetween(now, now));
  }

  /** Draw the selected bars again. Edits of their notes are given up. */
  redraw() {
    const { bars: { first, steps }, edits: { removed, added, redrawn } } = this;
    const elsewhere = ([step]) => step < first || step >= first + steps;
    const number = 1 + Math.max(0, ...redrawn.map((row) => row[2]));
    this.make({ removed: removed.filter(elsewhere), added: added.filter(elsewhere), redrawn: [...redrawn.filter(([begin]) => begin !== first), [first, steps, number]] }, first);
  }

  loop(on) {
    const { sound, take } = this.player;
    sound.repeat(on && this.bars ? [this.bars.begin, this.bars.end].map((second) => Math.round(second * take.rate)) : null);
    byId("loop").setAttribute("aria-pressed", String(Boolean(sound.loop)));
  }

  make(change, step) {
    const [before, after] = [this.edits, { ...this.edits, ...change }];
    const to = (edits) => () => this.send(edits, step);
    this.player.history.add({ undo: to(before), redo: to(after) });
    this.send(after, step);
  }

  send(edits, step) {
    this.edits = edits;
    clearTimeout(this.timer);
    const bar = this.barsBetween(this.secondOf(step), this.secondOf(step)).begin;
    this.from = Math.min(this.from ?? Infinity, bar);
    this.timer = setTimeout(() => {
      this.player.edit(edits, Math.max(0, this.from));
      this.from = undefined;
    }, SOON);
    this.player.dirty = true;
  }

  draw(context, about, height, x, scale) {
    if (this.bars) {
      const [left, right] = [this.bars.begin, this.bars.end].map(x);
      Object.assign(context, { globalAlpha: 0.16, fillStyle: ink()("mark") });
      context.fillRect(left, 0, right - left, height);
      context.globalAlpha = 1;
    }
    if (this.drag?.row) drawScore(context, [this.drag.row], about, height, x, scale);
  }
}
