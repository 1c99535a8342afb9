// The player: requests a take, plays and draws it while it is made, and steers it.

import { alertIn, byId, copy, element, film, keep, later, time } from "./dom.js";
import { STEP, listen } from "./keys.js";
import { Codes, Outline, PAGE, Strip, drawIdle, drawJoin, drawNotes, drawOctaves, drawPlayhead, drawScore, fitted, ink, tables, write } from "./pictures.js";
import { Sound, WHOLE, audio, loudness, volume, wav } from "./sound.js";
import { Turns } from "./turns.js";
import { address, answer, ask, cutter, frames, inWords, send } from "./wire.js";

const AHEAD = 10; // seconds at most that a long take is made ahead of the playhead
const NEAR = 1.5; // seconds ahead while the sound has no gaps, so that a change is heard soon
const HOLD = 4; // seconds that "hold this" repeats
const ROLES = ["the course of the piece", "its phrases", "its texture", "its grain"]; // what the levels decide, from the top of a chain to the bottom
const PASSAGE = 10; // seconds before the playhead that "continue from here" continues
const REMEMBERED = 5; // seconds after which the browser asks before it leaves the page

/** What a level of a chain decides. */
function role(chain, level) {
  if (chain.length === 1) return "the whole of the piece";
  return ROLES[Math.round((chain.indexOf(level) / (chain.length - 1)) * (ROLES.length - 1))];
}

export class Player {
  constructor(form, takes) {
    Object.assign(this, { form, takes, state: "empty", busy: false, stops: 0, marks: [], melody: [] });
    const on = (id, act) => byId(id)?.addEventListener("click", act);
    on("play", () => this.press());
    on("die", () => this.another());
    on("stop", () => this.stop());
    on("save", () => this.save());
    on("share", () => copy(address(this.record ?? this.take), byId("share")));
    on("jump", () => this.jump());
    on("hold", () => this.hold());
    on("onward", () => this.goOn());
    this.wave = byId("wave");
    this.picture = byId("picture");
    byId("volume").value = volume();
    byId("volume").addEventListener("input", () => {
      keep("vqwave.volume", Number(byId("volume").value));
      if (audio) audio.volume.gain.value = volume();
    });
    this.turns = new Turns(this, form.about.controls);
    for (const name of ["wild", "loudness"]) {
      byId(name).addEventListener("input", () => this.slide(name));
      byId(name).addEventListener("dblclick", () => {
        byId(name).value = 0;
        this.slide(name);
      });
    }
    this.wave.addEventListener("click", (event) => this.seek((event.offsetX / this.wave.clientWidth) * this.total));
    this.wave.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -STEP, ArrowRight: STEP, Home: -Infinity, End: Infinity }[event.key];
      if (!step) return;
      event.preventDefault();
      this.move(step);
    });
    listen(this);
    // The next action may correct what an error message is about.
    for (const kind of ["click", "change", "drop"]) byId("music").addEventListener(kind, () => alertIn(byId("alert"), ""), { capture: true });
    document.addEventListener("theme", () => this.repaint());
    window.addEventListener("beforeunload", (event) => {
      if (this.live && !this.take.local && this.sound.position > REMEMBERED * this.take.rate) event.preventDefault();
    });
    window.addEventListener("pagehide", () => this.leave());
    new ResizeObserver(() => (this.dirty = true)).observe(this.picture);
    setInterval(() => this.allow(), 200);
    film(() => this.draw());
    this.refresh();
  }

  // ------------------------------------------------------------------------------------------------------- making

  /** The large button: begin, pause or resume. */
  press() {
    if (this.busy) return;
    if (this.sound) this.toggle();
    else this.make();
  }

  another() {
    this.make({ seed: "", changes: "" });
  }

  /** Make a take from the form and `more`. The current take plays on until the studio has accepted the
   *  settings, and is shown until the new one begins. A second call meanwhile does nothing; Stop cancels. */
  async make(more = {}) {
    if (this.busy) return;
    const { stops } = this;
    const cancelled = () => stops !== this.stops;
    this.busy = true;
    alertIn(byId("alert"), "");
    this.refresh();
    byId("play").focus({ preventScroll: true });
    if (!this.sound) this.say("One moment …", null);
    try {
      const settings = await this.form.whole(more);
      const [, table] = await Promise.all([answer(ask("studio/settings", settings)), tables()]);
      this.table = table;
      if (!cancelled()) await this.stop(true);
      if (!cancelled()) await this.begin(settings);
    } catch (error) {
      if (!cancelled()) {
        alertIn(byId("alert"), inWords(error));
        if (this.state === "asking") this.giveUp();
      }
    }
    if (!this.sound) this.reset();
    this.busy = false;
    this.refresh();
  }

  /** Play a finished take again. */
  async playAgain(id) {
    if (this.busy) return;
    this.busy = true;
    alertIn(byId("alert"), "");
    try {
      this.table = await tables();
      await this.stop(true);
      this.reset();
      await this.read(await fetch(`studio/takes/${id}/frames`), (this.control = new AbortController()));
    } catch (error) {
      this.reset();
      alertIn(byId("alert"), inWords(error));
    }
    this.busy = false;
    this.refresh();
  }

  async begin(settings) {
    this.say("One moment …", null);
    const control = (this.control = new AbortController());
    this.state = "asking";
    this.refresh();
    const until = Math.round((NEAR + 1) * this.form.rate);
    this.long = settings.seconds === "endless" || Number(settings.seconds) > WHOLE;
    await this.read(await ask("studio/takes", this.long ? { ...settings, until } : settings, control.signal), control);
  }

  /** Read a take's messages. Returns once the take has begun, and reads on. */
  async read(response, control) {
    const parts = frames(response);
    const next = async () => {
      const { value, done } = await parts.next();
      if (done || this.control !== control) return null;
      const [about, payload] = value;
      if (about.error) throw new Error(about.error);
      if (about.progress) this.say(`${about.progress} …`, about.share);
      else if (about.take) this.open(about.take);
      else if (about.end) this.finish(about.end);
      else if (about.samples) this.block(about, payload);
      return about;
    };
    let about;
    try {
      do about = await next();
      while (about && !about.take);
    } catch (error) {
      if (control.signal.aborted) return;
      throw error;
    }
    if (about) this.readOn(next, control);
  }

  async readOn(next, control) {
    try {
      while (await next());
      if (this.control === control && !this.record) throw new TypeError("it ended early");
    } catch (error) {
      if (control.signal.aborted || this.control !== control) return;
      this.lose(inWords(error));
    }
  }

  /** Allow the studio to make the take a little ahead of the playhead. */
  async allow() {
    const { sound, take } = this;
    if (!this.live || this.asking) return;
    const until = Math.round(sound.position + Math.min(AHEAD, NEAR + 2 * sound.need) * take.rate);
    if (until <= (this.allowed ?? 0)) return;
    this.asking = true;
    try {
      await ask(`studio/takes/${take.id}/set`, { until });
      this.allowed = until;
    } catch {
      // The reader of the take reports the error.
    }
    this.asking = false;
  }

  get live() {
    return this.state === "making" && this.long;
  }

  open(take) {
    this.sound?.close();
    this.take = take;
    this.sound = new Sound(take.rate);
    this.outline = new Outline(take.column);
    this.spectrum = new Strip(take.bands, null, true);
    this.codes = take.levels.map((one) => new Codes(one, take.column));
    Object.assign(this, { bits: new Map(), marks: [], melody: [], score: [], record: null, allowed: 0, state: "making", speed: null });
    this.say("The model begins …", null);
    this.layLanes();
    this.turns.begin(take);
    if (this.live) for (const name of ["wild", "loudness"]) if (Number(byId(name).value)) this.slide(name);
    if (this.from) this.sound.from = Math.min(this.from, take.prompt);
    this.from = null;
    this.refresh();
  }

  layLanes() {
    const { take } = this;
    const canvas = (label) => element("canvas", { role: "img", "aria-label": label });
    this.codeCanvases = take.levels.map(({ level }) => canvas(`The codes of level ${level} over time`));
    this.notes = take.levels.map(() => element("span", { class: "note" }));
    const lane = ({ level, generated }, i) => element("figure", { class: `lane codes codes-${level}` }, element("figcaption", {},
      element("span", {}, element("b", {}, `${level}x`), ` ${generated ? role(take.chain, level) : "kept from the recording"}`), this.notes[i]), this.codeCanvases[i]);
    const [first, ...finer] = take.levels.map(lane);
    byId("lanes").replaceChildren(...(first ? [first] : []), ...(finer.length ? [element("details", { class: "finer" }, element("summary", {}, "Finer levels"), ...finer)] : []));
    byId("writing").hidden = !first;
    this.codeCanvases.forEach((canvas, i) => (canvas.style.height = `${this.codes[i].high(128)}px`));
    const [most] = take.levels.filter(({ generated }) => generated);
    if (most) byId("explained").textContent = `Every point is a code${take.levels.some(({ books }) => books > 1) ? ", and where a frame has several, its first is at the bottom" : ""}. Similar shades are similar sounds, and a repeated pattern is repeated music. “Bits” say how surprised the model is by what it plays, from 0 (certain) to ${most.most_bits.toFixed(0)} (a guess).`;
    this.codeCanvases.forEach((one, i) => {
      one.addEventListener("pointermove", (event) => (this.pointed = [i, event.offsetX / one.clientWidth, event.offsetY / one.clientHeight]));
      one.addEventListener("pointerleave", () => (this.pointed = null));
    });
  }

  block(about, payload) {
    const cut = cutter(payload);
    const pcm = cut(Int16Array, about.samples);
    this.spectrum.append(cut(Uint8Array, about.columns * this.take.bands), this.table.sound);
    about.codes.forEach((count, i) => this.codes[i].append(cut(Uint16Array, count), this.table.codes));
    this.bits.set(Math.floor(this.sound.end / this.take.block), about.bits);
    this.melody.push(...about.notes);
    const start = this.sound.end / this.take.rate;
    if (about.score) this.score = [...this.score.filter(([second]) => second < start), ...about.score];
    this.outline.append(pcm);
    this.sound.push(pcm);
    const kept = this.sound.blocks[0]?.start ?? 0;
    const oldest = Math.floor(kept / this.take.column);
    this.spectrum.forget(oldest);
    for (const codes of this.codes) codes.forget(Math.floor(kept / codes.each));
    for (const block of this.bits.keys()) if ((block * this.take.block) / this.take.column < oldest - PAGE) this.bits.delete(block);
    for (const notes of [this.melody, this.score]) while (notes.length && notes[0][0] < kept / this.take.rate - 10) notes.shift();
    this.speed = about.speed ?? this.speed;
    byId("waiting").hidden = true;
    this.dirty = true;
  }

  finish(record, ending = "Finished") {
    Object.assign(this, { record, ending });
    this.state = "ended";
    this.sound.finished = true;
    this.sound.tick();
    this.takes.add({ ...record, outline: this.outline.bytes(64, this.sound.end) });
    this.refresh();
  }

  /** End the take at the playhead and keep it. A finished take goes back to its beginning. */
  async stop(quietly = false) {
    const { control, take, sound } = this;
    if (!quietly) this.stops += 1;
    if (this.state !== "making" && this.state !== "asking") {
      sound?.pause();
      if (!quietly) this.seek(0);
      return;
    }
    this.control = null;
    if (this.state === "asking") {
      control.abort();
      return this.giveUp();
    }
    this.state = "stopping";
    sound?.pause();
    this.refresh();
    let [record, words] = [null, ""];
    if (take) {
      try {
        record = await answer(ask(`studio/takes/${take.id}/stop`, { sample: Math.ceil(sound.position) }));
      } catch (error) {
        words = inWords(error);
      }
    }
    control?.abort();
    if (record) {
      sound.end = Math.min(sound.end, Math.round(record.seconds * take.rate));
      sound.from = Math.min(sound.from, sound.end);
      this.finish(record, "Stopped");
    } else if (words && sound.end) this.lose(words);
    else this.reset();
  }

  /** The studio is gone or the take failed: the samples that arrived can still be heard and saved. */
  lose(words) {
    alertIn(byId("alert"), words);
    this.control = null;
    if (!this.sound?.end) return this.reset();
    this.sound.finished = true;
    this.state = "lost";
    this.refresh();
  }

  /** No new take begins: go back to the take before it. */
  giveUp() {
    this.control = null;
    if (!this.sound) return this.reset();
    this.state = this.record ? "ended" : "lost";
    byId("waiting").hidden = true;
    this.refresh();
  }

  reset() {
    this.sound?.close();
    Object.assign(this, { sound: null, take: null, record: null, control: null, state: "empty", dirty: true });
    byId("lanes").replaceChildren();
    byId("writing").hidden = true;
    this.say("Nothing is playing yet.");
    byId("clock").textContent = "0:00";
    this.refresh();
  }

  /** The browser leaves the page: end the take at the playhead and keep it. */
  leave() {
    if (!this.live || this.take.local || !this.sound.position) return;
    const { take, sound } = this;
    const body = new Blob([JSON.stringify({ sample: Math.ceil(sound.position) })], { type: "application/json" });
    navigator.sendBeacon(`studio/takes/${take.id}/stop`, body);
    this.takes.expect({ id: take.id, title: take.title, seed: take.seed, level: take.level, outline: this.outline.bytes(64, sound.position) });
  }

  toggle() {
    const { sound } = this;
    if (sound.paused || sound.over) sound.resume();
    else sound.pause();
    this.refresh();
  }

  /** Move the playhead by so many seconds. */
  move(seconds) {
    if (this.sound) this.seek(this.sound.position + seconds * this.take.rate);
  }

  seek(position) {
    if (!this.sound) return;
    this.sound.seek(position);
    this.dirty = true;
  }

  /** Download the take up to the playhead; from the page itself where the studio is gone. */
  save() {
    const { sound, take } = this;
    if (this.state === "lost" || take.local) {
      const heard = sound.samples(0, take.local ? Math.ceil(sound.position) : sound.end);
      const link = element("a", { href: URL.createObjectURL(wav(heard, take.rate)), download: `vqwave-seed-${take.seed}.wav` });
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    } else element("a", { href: `studio/takes/${take.id}.wav?heard=${Math.ceil(sound.position)}`, download: true }).click();
  }

  // ----------------------------------------------------------------------------------------------------- steering

  async steer(change, label) {
    if (!this.live) return;
    const take = this.take;
    try {
      const { sample, link } = await answer(ask(`studio/takes/${take.id}/set`, change));
      take.link = link;
      if (take === this.take && label) this.marks.push({ sample, label });
      this.dirty = true;
    } catch (error) {
      alertIn(byId("alert"), inWords(error));
    }
  }

  /** Send the last value of a slider, a few times a second. */
  slide(name) {
    later(name, 150, () => this.steer({ [name]: Number(byId(name).value) }));
  }

  /** Pass to another piece, which is neither held nor frozen. */
  jump() {
    this.showHeld(false);
    this.turns.showFrozen(false);
    this.steer({ jump: true }, "somewhere else");
  }

  showHeld(held) {
    byId("hold").setAttribute("aria-pressed", String(held));
    byId("hold").textContent = held ? "Let it go on" : "Hold this";
  }

  hold() {
    const held = byId("hold").getAttribute("aria-pressed") !== "true";
    this.showHeld(held);
    this.steer({ hold: held ? HOLD : 0 }, held ? "held" : "goes on");
  }

  /** Begin a take that continues the last seconds before the playhead. */
  async goOn() {
    const { sound, take, stops } = this;
    if (!sound || this.busy) return;
    this.busy = true;
    this.refresh();
    try {
      const end = Math.ceil(sound.position);
      const begin = Math.max(0, end - PASSAGE * take.rate);
      const name = `vqwave-seed-${take.seed}-${(begin / take.rate).toFixed(1)}-${(end / take.rate).toFixed(1)}s.wav`;
      const passage = await send(wav(sound.samples(begin, end), take.rate), name);
      this.busy = false;
      this.from = Infinity; // play from the end of the passage
      if (stops === this.stops) await this.make({ mode: "continue", seed: "", changes: "", seconds: "endless", recording: passage.id, name: passage.name, prompt_start: 0, prompt_seconds: passage.seconds, keep_original: true });
    } catch (error) {
      alertIn(byId("alert"), inWords(error));
    }
    this.busy = false;
    this.refresh();
  }

  // ------------------------------------------------------------------------------------------------------ drawing

  say(words, share) {
    const status = byId("status");
    if (status.textContent !== words) status.textContent = words;
    byId("waiting").hidden = share === undefined;
    if (share == null) byId("waiting").removeAttribute("value");
    else byId("waiting").value = share;
  }

  /** Update the labels and the state of the buttons. */
  refresh() {
    const { sound } = this;
    const going = sound && !sound.paused && !sound.over;
    const play = byId("play");
    play.setAttribute("aria-label", going ? "Pause" : "Play");
    play.classList.toggle("going", Boolean(going));
    play.setAttribute("aria-busy", String(this.busy));
    byId("die").disabled = this.busy;
    byId("make").disabled = this.busy;
    byId("stop").disabled = !sound && this.state !== "asking";
    byId("save").hidden = !(this.live || this.state === "lost" || this.take?.local);
    byId("save").textContent = this.state === "lost" ? "Save what was heard" : "Download";
    byId("share").hidden = this.state !== "ended" && !(this.live && this.take.local);
    const steerable = this.live;
    for (const name of ["wild", "loudness", "jump", "hold"]) byId(name).disabled = !steerable;
    this.turns.allow(steerable);
    if (byId("onward")) byId("onward").disabled = !sound || this.busy || this.state === "lost";
    byId("steer-why").hidden = steerable;
    if (!steerable) this.showHeld(false);
    this.dirty = true;
  }

  /** Samples that the width of the waveform shows. */
  get total() {
    const { take, sound } = this;
    if (!sound) return 1;
    if (sound.finished) return sound.end;
    return take.samples ?? Math.max(sound.end, 30 * take.rate);
  }

  draw() {
    const { sound, take } = this;
    if (!this.picture.clientWidth) return;
    this.level = Math.max(loudness(), (this.level ?? 0) * 0.88);
    byId("meter").style.setProperty("--level", this.level.toFixed(3));
    if (!take || !sound) return this.idle();
    const moving = sound.playing && !sound.over;
    if (moving !== this.moving) {
      this.moving = moving;
      this.refresh();
    }
    if (!moving && !this.dirty && !this.pointed) return;
    this.dirty = false;
    const { rate, column } = take;
    const position = sound.position;
    this.tell(position);

    const [wave, width, height, scale] = fitted(this.wave);
    const colour = ink();
    const across = (samples) => Math.round((samples / this.total) * width);
    const shown = Math.min(this.outline.samples, sound.end);
    this.outline.draw(wave, across(shown), height, shown, colour("wave"));
    wave.fillStyle = colour("mark");
    for (const { sample } of this.marks) wave.fillRect(across(sample), 0, scale, height * 0.25);
    wave.fillStyle = colour("veil");
    wave.fillRect(across(position), 0, Math.max(0, across(sound.end) - across(position)), height);
    wave.fillStyle = colour("mark");
    wave.fillRect(across(position) - scale, 0, 2 * scale, height);

    // A column is a whole number of pixels wide, so that all columns look alike.
    const wide = Math.max(1, Math.round((this.picture.clientWidth < 600 ? 2 : 3) * scale));
    const [picture, seen, tall] = fitted(this.picture);
    const columns = seen / wide;
    const last = Math.max(sound.end, (this.score.at(-1)?.[0] ?? 0) * rate) / column;
    const first = Math.max(0, Math.min(position / column - 0.6 * columns, Math.max(last, columns) - columns));
    const left = Math.round(first * wide);
    const x = (samples) => Math.round((samples / column) * wide) - left;
    picture.fillStyle = colour("picture");
    picture.fillRect(0, 0, seen, tall);
    picture.imageSmoothingEnabled = true;
    this.spectrum.draw(picture, tall, left, wide, seen);
    drawNotes(picture, this.melody, take, tall, (second) => x(second * rate), scale);
    drawScore(picture, this.score, take, tall, (second) => x(second * rate), scale);
    drawOctaves(picture, take, seen, tall, scale);
    drawPlayhead(picture, x(position), x(sound.end), tall, true);
    picture.font = `${11 * scale}px system-ui, sans-serif`;
    picture.textBaseline = "top";
    let [row, end] = [0, 0];
    for (const { sample, label } of [...(take.prompt ? [{ sample: take.prompt, label: "the model goes on" }] : []), ...this.marks]) {
      const at = x(sample);
      if (at < -200 * scale || at > seen) continue;
      drawJoin(picture, at, tall);
      if (at <= 36 * scale) continue;
      row = at < end ? row + 1 : 0; // a label that would cover the label before is a line lower
      write(picture, label, at + 6 * scale, (6 + 15 * row) * scale, scale);
      end = Math.max(end, at + picture.measureText(label).width + 12 * scale);
    }
    this.drawTime(picture, seen, tall, scale, first, x);
    if (byId("writing").open) this.drawCodes(left, wide, x, position);
  }

  drawTime(context, seen, tall, scale, first, x) {
    const { rate, column } = this.take;
    context.textBaseline = "bottom";
    for (let second = Math.ceil((first * column) / rate); x(second * rate) < seen - 30 * scale; second++) {
      if (second % 2 === 0 && x(second * rate) > 40 * scale) write(context, `${second} s`, x(second * rate) + 3 * scale, tall - 3 * scale, scale);
    }
  }

  drawCodes(left, wide, x, position) {
    const { take, sound } = this;
    this.codeCanvases.forEach((canvas, i) => {
      if (!canvas.clientWidth) return;
      const [context, seen, high] = fitted(canvas);
      this.codes[i].draw(context, high, left, (wide * this.codes[i].each) / take.column, seen);
      if (take.prompt) drawJoin(context, x(take.prompt), high);
      drawPlayhead(context, x(position), x(sound.end), high, false);
      const bits = this.bits.get(Math.floor(position / take.block))?.[take.levels[i].level];
      this.notes[i].textContent = bits === undefined ? "" : `${bits.toFixed(1)} bits a frame`;
    });
    if (!this.pointed) return;
    const [i, right, down] = this.pointed;
    const code = this.codes[i].find(((left + right * this.picture.width) / wide) * take.column, down);
    if (code) this.notes[i].textContent = `code ${code.code}${code.book ? ` of book ${code.book}` : ""} at ${(code.sample / take.rate).toFixed(3)} s`;
    this.dirty = true;
  }

  /** Draw in the colours of another theme. */
  async repaint() {
    if (this.table) {
      this.table = await tables();
      this.spectrum?.repaint(this.table.sound);
    }
    this.dirty = true;
  }

  idle() {
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const now = performance.now();
    if (!this.dirty && (still || now - (this.drawn ?? 0) < 80)) return;
    Object.assign(this, { dirty: false, drawn: now });
    const [context, width, height, scale] = fitted(this.picture);
    drawIdle(context, width, height, scale, still ? 3 : now / 1000);
    fitted(this.wave);
  }

  tell(position) {
    const { take, sound, state } = this;
    const [at, end] = [position / take.rate, sound.end / take.rate];
    const total = sound.finished ? end : take.samples ? take.samples / take.rate : null;
    byId("clock").textContent = total === null ? time(at) : `${time(at)} / ${time(total)}`;
    this.wave.setAttribute("aria-valuemax", Math.round(total ?? end));
    this.wave.setAttribute("aria-valuenow", Math.round(at));
    this.wave.setAttribute("aria-valuetext", `${time(at)} of ${time(total ?? end)}`);
    byId("hint").textContent = "Up is higher, a stronger colour is louder, and bars are notes. The line is what you hear now; the paler part comes next." + (this.score.length ? " Frames are the composed notes, also those that are not played yet." : "");
    if (this.busy) return;
    const gaps = sound.gaps ? ` The sound stopped ${sound.gaps === 1 ? "once" : `${sound.gaps} times`} to wait for more: this machine is too busy.${take.level < take.chain[0] && !take.local ? " A coarser detail (under More) needs less." : ""}` : "";
    const what = `${take.title}, seed ${take.seed}.`;
    if (state === "lost") this.say(`${what} What was made so far can still be heard and saved.`);
    else if (state === "ended") this.say(`${what} ${sound.over || sound.paused ? `${this.ending}. Press Play to hear it again.` : "Playing. The whole piece is made."}${gaps}`);
    else if (sound.end) {
      const doing = sound.paused ? "Paused" : sound.mute ? "The browser has no sound output" : sound.playing ? "Playing" : "Waiting for more sound";
      this.say(`${what} ${doing}.${this.speed ? ` Generating ${this.speed < 1 ? `slower than playback (${this.speed.toFixed(1)}×)` : `${this.speed.toFixed(1)}× faster than playback`}.` : ""}${gaps}`);
    }
  }
}
