// The player: requests a take, plays and draws it while it is made, and steers it.

import { Beats } from "./beat.js";
import { SLIDE, alertIn, announce, byId, copy, element, film, keep, report, saveAs, seldom, time } from "./dom.js";
import { Edit } from "./edit.js";
import { History, changeOf, flat } from "./history.js";
import { listen } from "./keys.js";
import { Codes, Outline, PAGE, Strip, bars, drawIdle, drawJoin, drawNotes, drawOctaves, drawPlayhead, drawScore, fitted, ink, tables, write } from "./pictures.js";
import { Sound, WHOLE, audio, loudness, volume, wav } from "./sound.js";
import { Turns } from "./turns.js";
import { address, answer, ask, cutter, frames, inWords, send } from "./wire.js";

const CHANGING = 1.5; // seconds more that a take is made ahead while the next one is prepared
const [DRIFT, RENEW] = [0.02, 2]; // seconds that the studio may be wrong about the playhead, and after which it is told again
const HOLD = 4; // seconds that "hold this" repeats
const PASSAGE = 10; // seconds before the playhead that "continue from here" continues
const REMEMBERED = 5; // seconds after which the browser asks before it leaves the page

const gainOf = (decibel) => 10 ** (decibel / 20);

export class Player {
  constructor(form, takes) {
    Object.assign(this, { form, takes, state: "empty", busy: false, marks: [], melody: [], score: [], values: {}, preset: {} });
    const acts = { play: () => this.press(), die: () => this.make({ seed: "", changes: "" }), stop: () => this.stop(), save: () => this.save(), jump: () => this.jump(), hold: () => this.hold(), onward: () => this.goOn(),
      share: () => copy(address(this.record ?? this.take), byId("share")), full: () => (document.fullscreenElement ? document.exitFullscreen() : document.querySelector(".stage").requestFullscreen()) };
    for (const [id, act] of Object.entries(acts)) byId(id)?.addEventListener("click", act);
    this.wave = byId("wave");
    this.picture = byId("picture");
    byId("volume").value = volume();
    byId("volume").addEventListener("input", () => {
      keep("vqwave.volume", Number(byId("volume").value));
      if (audio) audio.volume.gain.value = volume();
    });
    this.history = new History();
    this.edits = new Edit(this);
    this.turns = new Turns(this, form.about.controls);
    for (const name of ["wild", "loudness"]) {
      byId(name).addEventListener("input", () => this.slide(name));
      byId(name).addEventListener("dblclick", () => this.use({ [name]: 0 }));
    }
    this.wave.addEventListener("click", (event) => this.seek((event.offsetX / this.wave.clientWidth) * this.total));
    listen(this);
    // The next action may correct what an error message is about.
    for (const kind of ["click", "change", "drop"]) byId("music").addEventListener(kind, () => alertIn(byId("alert"), ""), { capture: true });
    document.addEventListener("theme", () => this.repaint());
    window.addEventListener("beforeunload", (event) => {
      if (this.live && !this.take.local && this.sound.position > REMEMBERED * this.take.rate) event.preventDefault();
    });
    window.addEventListener("pagehide", () => this.leave());
    new ResizeObserver(() => (this.dirty = true)).observe(this.picture);
    setInterval(() => this.allow(), 100);
    film(() => this.draw());
    this.refresh();
  }

  press() { return this.sound ? this.toggle() : this.make(); }

  /** Make a take from the form and `more`. The current take plays on until the new one can sound. A second call
   *  meanwhile does nothing; Stop cancels. begin: the sample from which a take is heard. */
  async make(more = {}, begin = () => 0) {
    await this.change(async (coming) => {
      const settings = await this.form.whole(await more);
      const { settings: whole } = await answer(ask("studio/settings", settings));
      if (coming.signal.aborted) return;
      const long = settings.seconds === "endless" || Number(settings.seconds) > WHOLE;
      const latency = long && !settings.changes && whole.level >= this.form.folder?.ending ? this.latency : settings.latency;
      const until = Math.round((1 + (settings.mode === "continue" ? Number(settings.prompt_seconds) : 0)) * this.form.rate);
      if (this.take?.local && this.state === "making") this.rest(await this.conclude(), "Stopped");
      const replaces = this.state === "making" ? this.take.id : "";
      await this.read(await ask("studio/takes", { ...settings, latency, replaces, ...(long && { until }) }, coming.signal), coming, { long, begin });
    });
  }

  /** Make the take again with other edits of its score, to be heard from a second on, or in its loop. */
  async edit(edits, second) {
    const { take, sound, live } = this;
    if (this.busy) return void (this.coming?.abort(), setTimeout(() => this.edit(edits, second), 100));
    const from = Math.round(second * take.rate);
    const until = (sound.loop?.[1] ?? from) + take.rate;
    await this.change(async (coming) => this.read(await ask(`studio/takes/${take.id}/edit`, { edits, ...(live && { until }) }, coming.signal), coming, { long: live, begin: () => sound.loop?.[1] ?? from, edited: take.id }));
  }

  /** Short blocks, so that a change is heard at once, unless this machine was too slow for those of the last take. */
  get latency() {
    if (this.speed) this.slow = this.speed < (this.slow ? 5 : 1.1);
    return this.slow ? "page" : "live";
  }

  playAgain(id) { return this.change(async (coming) => this.read(await fetch(`studio/takes/${id}/frames`, { signal: coming.signal }), coming, {})); }

  /** Prepare another take, unless one is prepared already. */
  async change(prepare) {
    if (this.busy) return;
    const coming = (this.coming = new AbortController());
    this.busy = true;
    alertIn(byId("alert"), "");
    this.refresh();
    byId("play").focus({ preventScroll: true });
    this.say("One moment …", null);
    try {
      await prepare(coming);
    } catch (error) { if (!coming.signal.aborted) alertIn(byId("alert"), inWords(error)); }
    Object.assign(this, { busy: false, coming: null });
    byId("waiting").hidden = true;
    if (!this.sound) this.reset();
    this.refresh();
  }

  /** Read a take's messages until it can sound, then put it in the place of the current one. */
  async read(response, control, { long = false, begin = () => 0, edited = null }) {
    this.table = await tables();
    const parts = frames(response);
    const first = [];
    let [take, samples] = [null, 0];
    for (let ready = false; !ready; ) {
      const { value, done } = await parts.next();
      if (control.signal.aborted) return;
      if (done) throw new TypeError("it ended early");
      const [about] = value;
      if (about.error) throw new Error(about.error);
      if (about.progress) this.say(`${about.progress} …`, about.share);
      if (about.take) take = about.take;
      samples += about.samples ?? 0;
      first.push(value);
      if (edited && samples) this.say("Making the music again …", samples / begin(take));
      ready = about.end || (take && samples > begin(take));
    }
    if (this.state === "making") this.conclude(!edited).catch(() => {}); // the new take sounds, whatever became of the old one
    Object.assign(this, { control, long, before: edited ? [...this.before, edited] : [] });
    this.open(take, begin(take), edited);
    for (const message of first) this.receive(message);
    this.readOn(parts, control);
  }

  receive([about, payload]) {
    if (about.error) throw new Error(about.error);
    if (about.end) this.finish(about.end);
    else if (about.samples) this.block(about, payload);
  }

  async readOn(parts, control) {
    try {
      while (this.control === control) {
        const { value, done } = await parts.next();
        if (this.control !== control) return;
        if (done) break;
        this.receive(value);
      }
      if (this.control === control && !this.record) throw new TypeError("it ended early");
    } catch (error) {
      if (control.signal.aborted || this.control !== control) return;
      this.lose(inWords(error));
    }
  }

  /** Allow the studio to make the take a little ahead of the playhead. While it plays, the studio allows more by itself. */
  async allow() {
    const { sound, take } = this;
    if (!this.live || this.asking || (this.coming && take.local)) return;
    const now = performance.now() / 1000;
    const playing = sound.playing && sound.position > 0;
    const until = sound.position / take.rate + sound.need + (this.coming ? CHANGING : 0);
    const { allowed } = this;
    const expected = allowed && allowed.until + (allowed.playing ? now - allowed.at : 0);
    if (allowed && allowed.playing === playing && Math.abs(until - expected) < DRIFT && now < allowed.at + RENEW) return;
    this.asking = true;
    const heard = Math.round(Math.max(0, sound.position - take.rate * (audio.outputLatency || 0)));
    await Promise.resolve(ask(`studio/takes/${take.id}/set`, { until: Math.round(until * take.rate), playing, heard })).then(() => (this.allowed = { until, playing, at: now }), () => {}); // the reader of the take reports the error
    this.asking = false;
  }

  get live() { return this.state === "making" && this.long; }

  /** Show and play a take, from a sample on, or in the loop of the take before its edit. */
  open(take, from, edited) {
    this.take = take;
    const loop = edited && this.sound.loop;
    this.sound = new Sound(take.rate, take.block / take.rate, this.sound);
    this.outline = new Outline(take.column);
    this.spectrum = new Strip(take.bands, null, true);
    this.codes = take.levels.map((one) => new Codes(one, take.column));
    Object.assign(this, { bits: new Map(), marks: [], melody: [], score: [], record: null, allowed: null, state: "making", speed: null, beats: new Beats() });
    this.layLanes();
    this.turns.begin(take);
    this.edits.begin(take, edited);
    if (edited) this.turns.showValues(this.values);
    else {
      this.values = {};
      for (const name of ["wild", "loudness"]) if (Number(byId(name).value)) this.preset[name] ??= Number(byId(name).value);
      this.history.clear();
      if (this.live) this.use(this.preset);
    }
    Object.assign(this.sound, { loop, from: loop ? loop[0] : from });
    announce(take.title, "VQWave", { play: () => this.press(), pause: () => this.press(), stop: () => this.stop(), nexttrack: () => this.make({ seed: "", changes: "" }) });
    this.refresh();
  }

  layLanes() {
    const { take } = this;
    const lanes = take.levels.map(({ level, generated }, i) => {
      const [canvas, note] = [element("canvas", { role: "img", "aria-label": `The codes of level ${level} over time` }), element("span", { class: "note" })];
      canvas.style.height = `${this.codes[i].high(128)}px`;
      return { canvas, note, root: element("figure", { class: `lane codes codes-${level}` }, element("figcaption", {}, element("span", {}, element("b", {}, `${level}x`), generated ? null : " kept from the recording"), note), canvas) };
    });
    this.lanes = lanes;
    byId("lanes").replaceChildren(...lanes.map(({ root }) => root));
    byId("writing").hidden = !lanes.length;
    const [most] = take.levels.filter(({ generated }) => generated);
    if (most) byId("explained").textContent = `Every point is a code${take.levels.some(({ books }) => books > 1) ? ", and where a frame has several, its first is at the bottom" : ""}. Similar shades are similar sounds, and a repeated pattern is repeated music.${this.draws(most) ? ` “Bits” say how surprised the model is by what it plays, from 0 (certain) to ${most.most_bits.toFixed(0)} (a guess).` : ""}`;
  }

  /** Whether the codes of a level are drawn one after the other; a performer is never surprised. */
  draws({ level }) { return this.take.sampled.temperature?.includes(`${level}x`); }

  block(about, payload) {
    const cut = cutter(payload);
    const pcm = cut(Int16Array, about.samples);
    this.spectrum.append(cut(Uint8Array, about.columns * this.take.bands), this.table.sound);
    for (const codes of this.codes) codes.count = Math.round(this.sound.end / codes.level) * codes.books; // a part that was made before an edit has no codes
    about.codes.forEach((count, i) => this.codes[i].append(cut(Uint16Array, count), this.table.codes));
    this.bits.set(Math.floor(this.sound.end / this.take.block), about.bits);
    this.melody.push(...about.notes);
    const start = this.sound.end / this.take.rate;
    if (about.score) this.score = [...this.score.filter(([second]) => second < start), ...about.score];
    if (about.score && byId("edit").hidden) this.refresh();
    this.beats.hear(about.form, start);
    this.turns.showTempo(this.beats.tempo);
    this.outline.append(pcm);
    this.sound.push(pcm);
    const kept = this.sound.blocks[0]?.start ?? 0;
    const oldest = Math.floor(kept / this.take.column);
    this.spectrum.forget(oldest);
    for (const codes of this.codes) codes.forget(Math.floor(kept / codes.each));
    for (const block of this.bits.keys()) if ((block * this.take.block) / this.take.column < oldest - PAGE) this.bits.delete(block);
    for (const notes of [this.melody, this.score]) while (notes.length && notes[0][0] < kept / this.take.rate - 10) notes.shift();
    this.beats.forget(kept / this.take.rate - 10);
    this.speed = about.speed ?? this.speed;
    byId("waiting").hidden = true;
    this.dirty = true;
  }

  finish(record) {
    this.rest(record, "Finished");
    this.list(this, record);
  }

  rest(record, ending) {
    Object.assign(this, { record, ending, state: "ended" });
    this.sound.finished = true;
    this.sound.tick();
    this.refresh();
  }

  list({ sound, outline }, record) { this.takes.add({ ...record, outline: outline.bytes(64, sound.end) }, this.before); }

  /** End the making of the current take at the playhead, and list it. Returns its record, null where nothing was heard. */
  async conclude(listed = true) {
    const { control, take, sound, outline } = this;
    Object.assign(this, { control: null, state: "stopping" });
    try {
      const record = await answer(ask(`studio/takes/${take.id}/stop`, { sample: Math.ceil(sound.position) }));
      if (record) {
        sound.end = Math.min(sound.end, Math.round(record.seconds * take.rate));
        sound.from = Math.min(sound.from, sound.end);
        if (listed) this.list({ sound, outline }, record);
      }
      return record;
    } finally { control?.abort(); }
  }

  /** End the take at the playhead and keep it. A finished take goes back to its beginning. */
  async stop() {
    this.coming?.abort();
    const { sound } = this;
    sound?.pause();
    if (this.state !== "making") return this.seek(0);
    this.refresh();
    try {
      const record = await this.conclude();
      if (this.sound !== sound) return;
      if (!record) return this.reset();
      this.rest(record, "Stopped");
    } catch (error) { this.lose(inWords(error)); }
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

  reset() {
    this.sound?.close();
    Object.assign(this, { sound: null, take: null, record: null, control: null, state: "empty", dirty: true });
    byId("lanes").replaceChildren();
    byId("writing").hidden = true;
    this.say("Nothing is playing yet.");
    byId("clock").textContent = "0:00";
    byId("beat").textContent = "";
    this.refresh();
  }

  /** The browser leaves the page, which ends the take: the next page lists it. */
  leave() {
    if (!this.live || this.take.local || !this.sound.position) return;
    const { take, sound } = this;
    this.takes.expect({ id: take.id, title: take.title, seed: take.seed, level: take.level, outline: this.outline.bytes(64, sound.position) });
  }

  toggle() {
    this.sound[this.sound.paused || this.sound.over ? "resume" : "pause"]();
    this.refresh();
  }

  move(seconds) { if (this.sound) this.seek(this.sound.position + seconds * this.take.rate); }

  seek(position) {
    this.sound?.seek(position);
    this.dirty = true;
  }

  /** Download the take up to the playhead; from the page itself where the studio is gone. */
  save() {
    const { sound, take } = this;
    if (this.state === "lost" || take.local) saveAs(`vqwave-seed-${take.seed}.wav`, wav(sound.samples(0, take.local ? Math.ceil(sound.position) : sound.end), take.rate));
    else element("a", { href: `studio/takes/${take.id}.wav?heard=${Math.ceil(sound.position)}`, download: true }).click();
  }

  /** Change controls. label: of the mark in the picture. again: the history knows the change. */
  async steer(change, label, again = false) {
    if (!this.live) return;
    const take = this.take;
    if (!again) this.remember(change);
    const bar = byId("bar").checked && change.loudness === undefined;
    try {
      const { sample, link } = await answer(ask(`studio/takes/${take.id}/set`, bar ? { ...change, bar } : change));
      take.link = link;
      if (take === this.take && label && sample !== undefined) this.marks.push({ sample, label });
      if (take === this.take && change.loudness !== undefined) this.sound.expectGain(sample, gainOf(change.loudness), take.ramp);
      this.dirty = true;
    } catch (error) { alertIn(byId("alert"), inWords(error)); }
  }

  /** Remember a change of controls, so that it can be undone; a jump or a section cannot be. */
  remember({ jump, section, ...change }) {
    const after = flat(change);
    const before = Object.fromEntries(Object.keys(after).map((name) => [name, this.values[name] ?? this.turns.firstOf(name)]));
    Object.assign(this.values, after);
    this.turns.showValues(after);
    const to = (values) => () => {
      Object.assign(this.values, values);
      this.turns.showValues(values);
      this.steer(changeOf(values), undefined, true);
    };
    if (Object.keys(after).length) this.history.add({ key: Object.keys(after).join(), undo: to(before), redo: to(after) });
  }

  /** Set controls, {control: value}; where nothing can be steered, in the next take. */
  use(values) {
    this.preset = this.live ? {} : values;
    if (!this.live || !Object.keys(values).length) return;
    if (values.loudness !== undefined) this.sound.setGain(gainOf(values.loudness));
    this.steer(changeOf(values));
  }

  /** Send the value of a slider. The loudness changes at once; what the studio makes has it a little later. */
  slide(name) {
    if (name === "loudness") this.sound?.setGain(gainOf(Number(byId(name).value)));
    seldom(name, SLIDE, () => this.steer({ [name]: Number(byId(name).value) }));
  }

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
    const { sound, take } = this;
    if (!sound || this.busy) return;
    const end = Math.ceil(sound.position);
    const passage = send(wav(sound.samples(Math.max(0, end - PASSAGE * take.rate), end), take.rate), `${take.title}.wav`);
    await this.make(passage.then(({ id, name, seconds }) => ({ mode: "continue", seed: "", changes: "", seconds: "endless", recording: id, name, prompt_start: 0, prompt_seconds: seconds, keep_original: true })), ({ prompt }) => prompt);
  }

  say(words, share) { report("status", "waiting", words, share); }

  refresh() {
    const { sound, take } = this;
    const going = sound && !sound.paused && !sound.over;
    const play = byId("play");
    play.setAttribute("aria-label", going ? "Pause" : "Play");
    play.classList.toggle("going", Boolean(going));
    play.setAttribute("aria-busy", String(this.busy));
    byId("die").disabled = byId("make").disabled = this.busy;
    byId("stop").disabled = !sound && !this.coming;
    byId("save").hidden = !(this.live || this.state === "lost" || this.take?.local);
    byId("save").textContent = this.state === "lost" ? "Save what was heard" : "Download";
    byId("share").hidden = this.state !== "ended" && !(this.live && this.take.local);
    for (const name of ["wild", "loudness", "jump", "hold", "bar"]) byId(name).disabled = !this.live;
    this.turns.allow(this.live);
    if (byId("onward")) byId("onward").disabled = !sound || this.busy || this.state === "lost";
    this.edits.allow(Boolean(sound && !take?.local && this.state !== "lost" && (this.score.length || (take.score && !this.sound.end))));
    byId("steer-why").hidden = this.live;
    if (!this.live) this.showHeld(false);
    this.dirty = true;
  }

  get total() {
    const { take, sound } = this;
    return !sound ? 1 : sound.finished ? sound.end : take.samples ?? Math.max(sound.end, 30 * take.rate);
  }

  draw() {
    const { sound, take } = this;
    if (!this.picture.clientWidth) return;
    this.level = Math.max(loudness(), (this.level ?? 0) * 0.88);
    byId("meter").style.setProperty("--level", this.level.toFixed(3));
    if (!sound) {
      if (this.dirty) drawIdle(...fitted(this.picture), fitted(this.wave));
      return void (this.dirty = false);
    }
    const moving = sound.playing && !sound.over;
    if (moving !== this.moving) {
      this.moving = moving;
      this.refresh();
    }
    if (!moving && !this.dirty) return;
    this.dirty = false;
    const { rate, column } = take;
    const position = sound.position;
    this.tell(position);

    const [wave, width, height, scale] = fitted(this.wave);
    const colour = ink();
    const across = (samples) => Math.round((samples / this.total) * width);
    const shown = Math.min(this.outline.samples, sound.end);
    bars(wave, this.outline.bytes(across(shown), shown), across(shown), height, colour("wave"));
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
    const first = Math.max(0, Math.min(position / column - 0.78 * columns, Math.max(last, columns) - columns));
    const left = Math.round(first * wide);
    const x = (samples) => Math.round((samples / column) * wide) - left;
    this.secondAt = (pixel) => (((pixel * scale + left) / wide) * column) / rate;
    picture.fillStyle = colour("picture");
    picture.fillRect(0, 0, seen, tall);
    picture.imageSmoothingEnabled = true;
    picture.globalAlpha = this.edits.on ? 0.4 : 1; // so that the notes are clear
    this.spectrum.draw(picture, tall, left, wide, seen);
    picture.globalAlpha = 1;
    drawNotes(picture, this.melody, take, tall, (second) => x(second * rate), scale, this.score.length > 0);
    drawScore(picture, this.score, take, tall, (second) => x(second * rate), scale);
    drawOctaves(picture, take, seen, tall, scale);
    this.edits.draw(picture, take, tall, (second) => x(second * rate), scale);
    this.beats.draw(picture, (second) => x(second * rate), seen, tall, scale);
    this.beats.tell(position / rate, this.score);
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
    if (byId("writing").open) this.drawCodes(left, wide, x, position);
  }

  drawCodes(left, wide, x, position) {
    const { take, sound } = this;
    this.lanes.forEach(({ canvas, note }, i) => {
      const [context, seen, high] = fitted(canvas);
      this.codes[i].draw(context, high, left, (wide * this.codes[i].each) / take.column, seen);
      if (take.prompt) drawJoin(context, x(take.prompt), high);
      drawPlayhead(context, x(position), x(sound.end), high, false);
      const bits = this.bits.get(Math.floor(position / take.block))?.[take.levels[i].level];
      note.textContent = bits === undefined || !this.draws(take.levels[i]) ? "" : `${bits.toFixed(1)} bits a frame`;
    });
  }

  async repaint() {
    this.table &&= await tables();
    this.spectrum?.repaint(this.table.sound);
    this.dirty = true;
  }

  tell(position) {
    const { take, sound, state } = this;
    const [at, end] = [position / take.rate, sound.end / take.rate];
    const total = sound.finished ? end : take.samples ? take.samples / take.rate : null;
    byId("clock").textContent = total === null ? time(at) : `${time(at)} / ${time(total)}`;
    this.wave.setAttribute("aria-valuemax", Math.round(total ?? end));
    this.wave.setAttribute("aria-valuenow", Math.round(at));
    this.wave.setAttribute("aria-valuetext", `${time(at)} of ${time(total ?? end)}`);
    byId("hint").hidden = !this.edits.on;
    byId("hint").textContent = "Click a note to remove it, or an empty place to add one. Drag a note to move it. Drag along the lower edge, or with Shift, to select bars.";
    if (this.busy) return;
    const gaps = sound.gaps ? ` The sound stopped ${sound.gaps === 1 ? "once" : `${sound.gaps} times`} to wait for more: this machine is too busy.${take.level < take.chain[0] && !take.local ? " A coarser detail (under More) needs less." : ""}` : "";
    const what = `${take.title}, seed ${take.seed}.`;
    if (state === "lost") this.say(`${what} What was made so far can still be heard and saved.`);
    else if (state === "ended") this.say(`${what} ${sound.over || sound.paused ? `${this.ending}. Press Play to hear it again.` : "Playing. The whole piece is made."}${gaps}`);
    else if (sound.end) {
      const doing = sound.paused ? "Paused" : sound.mute ? "The browser has no sound output" : sound.playing ? "Playing" : "Waiting for more sound";
      this.say(`${what} ${doing}.${this.speed && this.speed < 1 ? ` This machine makes ${this.speed.toFixed(1)} s of music a second.` : ""}${gaps}`);
    }
  }
}
