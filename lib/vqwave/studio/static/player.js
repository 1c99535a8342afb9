// The player: makes a take, plays and draws it while it is made, and remembers what was made in this browser.

import { Part, copy, element, time } from "./dom.js";
import { Outline, PAGE, Strip, colours, fitted, ink, mel, tables } from "./pictures.js";
import { Sound, WHOLE, audio } from "./sound.js";
import { ask, cutter, frames } from "./wire.js";

const AHEAD = 20; // seconds read ahead of what is heard, where a take is not short enough to be read as a whole
const KEY = "vqwave.takes";

export class Player extends Part {
  build(append) {
    window.vqwave.player = this;
    this.state = "empty";
    const button = (label, act, more = {}) => element("button", { type: "button", onclick: act, ...more }, label);
    append(
      (this.alertBox = element("p", { class: "alert", role: "alert", hidden: true })),
      (this.empty = element("div", { class: "empty" },
        element("h2", {}, "Nothing is playing yet"),
        element("p", {}, "Choose what to make and press “Make music”. You hear it while it is made, and see what the model thinks: the waveform, the mel spectrogram, and the codes of its levels as coloured rows."))),
      (this.stage = element("section", { class: "stage", hidden: true, "aria-label": "The take" },
        element("div", { class: "bar" },
          (this.pauseButton = button("Pause", () => this.toggle(), { class: "main", id: "pause" })),
          (this.stopButton = button("Stop", () => this.stop(), { id: "stop" })),
          (this.clockText = element("span", { class: "time", id: "clock" })),
          element("label", { class: "volume" }, "Volume ",
            (this.volume = element("input", { type: "range", min: 0, max: 1, step: 0.01, value: localStorage.getItem("vqwave.volume") ?? 0.9, "aria-label": "Volume", oninput: () => this.loud() })))),
        (this.status = element("p", { class: "status", role: "status", id: "status" })),
        (this.waiting = element("progress", { max: 1, hidden: true })),
        (this.lanes = element("div", { class: "lanes" })),
        (this.done = element("div", { class: "done", hidden: true })),
        element("details", { class: "explain" }, element("summary", {}, "How to read this picture"),
          (this.explained = element("div", {}))))),
      element("section", { class: "history", "aria-label": "History of takes" },
        element("h2", {}, "Your takes"), (this.list = element("div", {}))),
    );
    document.addEventListener("keydown", (event) => {
      const field = event.composedPath()[0].closest?.("input, textarea, select, button, [contenteditable], [role=slider], [role=tab], summary");
      if (event.code === "Space" && !field && this.sound && this.offsetParent) {
        event.preventDefault();
        this.toggle();
      }
    });
    this.history();
  }

  loud() {
    localStorage.setItem("vqwave.volume", this.volume.value);
    if (audio) audio.volume.gain.value = Number(this.volume.value);
  }

  say(words, share) {
    this.status.textContent = words;
    this.waiting.hidden = share === undefined;
    if (share == null) this.waiting.removeAttribute("value");
    else this.waiting.value = share;
  }

  fail(words) {
    this.alertBox.textContent = words;
    this.alertBox.hidden = !words;
    if (words) this.alertBox.scrollIntoView({ block: "nearest" });
  }

  // ------------------------------------------------------------------------------------------------------- making

  async make(settings) {
    await this.stop();
    this.sound?.close();
    this.fail("");
    const control = (this.control = new AbortController());
    Object.assign(this, { sound: null, take: null, record: null, bits: new Map(), state: "waiting", started: null });
    this.empty.hidden = true;
    this.stage.hidden = false;
    this.done.hidden = true;
    this.lanes.replaceChildren();
    this.pauseButton.hidden = true;
    this.stopButton.textContent = "Cancel";
    this.stopButton.disabled = false;
    this.clockText.textContent = "";
    this.say("Asking the studio …", null);
    if (this.getBoundingClientRect().top > window.innerHeight / 2) this.scrollIntoView({ behavior: "smooth" });
    try {
      this.table = tables(await colours());
      const response = await ask("studio/takes", settings, control.signal);
      for await (const [about, payload] of frames(response)) {
        if (this.control !== control) return;
        if (about.progress) this.say(`${about.progress} …`, about.share);
        else if (about.error) throw new Error(about.error);
        else if (about.take) this.begin(about.take);
        else if (about.end) this.finish(about.end);
        else this.block(about, payload);
        while (this.enough && this.control === control) await new Promise((resolve) => setTimeout(resolve, 200));
      }
      if (this.control === control && !this.record) throw new Error("The connection to the studio ended before the take did.");
    } catch (error) {
      if (control.signal.aborted || this.control !== control) return;
      const lost = error instanceof TypeError;
      this.failed(lost ? "The studio cannot be reached: is it still running?" : error.message);
    }
  }

  get enough() {
    const { sound, take } = this;
    if (!sound || this.record || (take.samples && take.samples <= WHOLE * take.rate)) return false;
    return sound.end - sound.position > AHEAD * take.rate;
  }

  failed(words) {
    this.control = null;
    this.fail(words);
    if (this.sound?.end) {
      this.sound.finished = true;
      this.state = "ended";
      this.say("What was made until then can still be heard.");
    } else {
      this.state = "empty";
      this.stage.hidden = true;
      this.empty.hidden = false;
    }
  }

  begin(take) {
    this.take = take;
    this.sound = new Sound(take.rate);
    this.outline = new Outline(take.column);
    this.explained.replaceChildren(...explain(take));
    this.spectrum = new Strip(take.bands, "sound", null, true);
    this.codes = take.levels.map(({ level, shades }) => new Strip(take.column / level, "codes", Uint8Array.from(shades)));
    this.state = "making";
    this.started = performance.now();
    this.pauseButton.hidden = false;
    this.pauseButton.textContent = "Pause";
    this.stopButton.textContent = "Stop";
    this.say("The model begins …", null);
    const lane = (name, words, canvas, note) => element("figure", { class: `lane ${name}` }, element("figcaption", {}, element("span", {}, ...words), note), canvas);
    const canvas = (label, more = {}) => element("canvas", { role: "img", "aria-label": label, ...more });
    this.overview = canvas("Waveform of the whole take; the arrow keys move through it", {
      role: "slider", tabindex: 0, "aria-valuemin": 0, "aria-valuemax": 0, "aria-valuenow": 0,
      onclick: (event) => this.seek(((event.clientX - event.target.getBoundingClientRect().left) / event.target.clientWidth) * this.total),
      onkeydown: (event) => {
        const step = { ArrowLeft: -5, ArrowRight: 5 }[event.key];
        if (!step) return;
        event.preventDefault();
        this.seek(this.sound.position + step * take.rate);
      },
    });
    this.spectrumCanvas = canvas("Mel spectrogram");
    this.codeCanvases = take.levels.map(({ level }) => canvas(`The codes of level ${level} over time`));
    this.notes = take.levels.map(() => element("span", { class: "note" }));
    this.axis = canvas("Time", { "aria-hidden": true });
    this.lanes.replaceChildren(
      lane("wave", [element("b", {}, "Waveform"), " the whole take"], this.overview),
      lane("spectrum", [element("b", {}, "Mel spectrogram"), ` 0 to ${(take.rate / 2000).toFixed(0)} kHz`], this.spectrumCanvas),
      ...take.levels.map(({ level, made, role }, i) => lane(`codes codes-${level}`,
        [element("b", {}, `${level}x`), ` ${made ? role : "kept from the recording"}`, element("i", {}, `, ${Math.round(take.rate / level).toLocaleString("en")} codes a second`)],
        this.codeCanvases[i], this.notes[i])),
      element("figure", { class: "lane axis" }, this.axis),
    );
    this.codeCanvases.forEach((one, i) => {
      one.addEventListener("pointermove", (event) => (this.pointed = [i, event.offsetX / one.clientWidth, event.offsetY / one.clientHeight]));
      one.addEventListener("pointerleave", () => (this.pointed = null));
    });
    this.dirty = true;
  }

  block(about, payload) {
    const cut = cutter(payload);
    const pcm = cut(Int16Array, about.samples);
    this.spectrum.append(cut(Uint8Array, about.columns * this.take.bands), this.table.sound);
    about.codes.forEach((count, i) => this.codes[i].append(cut(Uint16Array, count), this.table.codes));
    this.bits.set(Math.floor(this.sound.end / this.take.block), about.bits);
    this.outline.append(pcm);
    this.sound.push(pcm);
    const oldest = Math.floor((this.sound.blocks[0]?.start ?? 0) / this.take.column);
    for (const strip of [this.spectrum, ...this.codes]) strip.forget(oldest);
    for (const block of this.bits.keys()) if ((block * this.take.block) / this.take.column < oldest - PAGE) this.bits.delete(block);
    this.speed = this.sound.end / this.take.rate / ((performance.now() - this.started) / 1000);
    this.waiting.hidden = true;
    this.dirty = true;
  }

  finish(record) {
    this.record = record;
    this.sound.finished = true;
    this.sound.tick();
    this.remember(record);
    this.offer(record);
    this.dirty = true;
  }

  /** Stop making: the take ends where it is heard. */
  async stop() {
    const { control, take, sound } = this;
    if (this.record) {
      sound.pause();
      sound.seek(0);
      return;
    }
    if (!control) return;
    this.control = null;
    this.state = "stopping";
    this.stopButton.disabled = true;
    let record = null;
    if (take) {
      const heard = Math.ceil(sound.position);
      sound.pause();
      try {
        const answer = await ask(`studio/takes/${take.id}/stop`, { heard });
        record = answer.ok ? await answer.json() : null;
      } catch {
        // The studio is gone; what was made stays here.
      }
    }
    control.abort();
    this.stopButton.disabled = false;
    if (!record) {
      this.sound?.close();
      this.sound = this.take = null;
      this.state = "empty";
      this.stage.hidden = true;
      this.empty.hidden = false;
      return;
    }
    sound.end = Math.min(sound.end, Math.round(record.seconds * take.rate));
    sound.from = Math.min(sound.from, sound.end);
    this.finish(record);
  }

  toggle() {
    const { sound } = this;
    if (!sound) return;
    if (sound.paused || sound.over) sound.resume();
    else sound.pause();
    this.dirty = true;
  }

  seek(position) {
    if (!this.sound) return;
    this.sound.seek(position);
    this.dirty = true;
  }

  /** Samples that the waveform's width stands for. */
  get total() {
    const { take, sound, record } = this;
    if (record) return sound.end;
    return take.samples ?? Math.max(sound.end, 30 * take.rate);
  }

  // ------------------------------------------------------------------------------------------------------ drawing

  async recolour() {
    if (!this.table) return;
    this.table = tables(await colours());
    this.spectrum?.repaint(this.table.sound);
    this.codes?.forEach((strip) => strip.repaint(this.table.codes));
    this.dirty = true;
  }

  draw() {
    const { sound, take } = this;
    if (!take || !sound || !this.overview?.clientWidth) return;
    const moving = sound.playing && !sound.over;
    if (moving !== this.moving) this.dirty = true;
    this.moving = moving;
    if (!moving && !this.dirty && !this.pointed) return;
    this.dirty = false;
    const colour = ink();
    const { rate, column } = take;
    const position = sound.position;
    this.tell(position);

    const [wave, width, height, scale] = fitted(this.overview);
    const across = (samples) => Math.round((samples / this.total) * width);
    this.outline.draw(wave, across(Math.min(this.outline.samples, sound.end)), height, Math.min(this.outline.samples, sound.end), colour("wave"));
    this.shade(wave, across(position), across(sound.end), height, colour);

    // A column is a whole number of the screen's points wide, so that each one looks like the next.
    const wide = Math.max(1, Math.round((this.clientWidth < 600 ? 2 : 3) * scale));
    const [spectrum, seen, tall] = fitted(this.spectrumCanvas);
    const columns = seen / wide;
    const last = sound.end / column;
    const first = Math.max(0, Math.min(position / column - 0.6 * columns, Math.max(last, columns) - columns));
    const left = Math.round(first * wide);
    const x = (samples) => Math.round((samples / column) * wide) - left;
    this.spectrum.draw(spectrum, tall, left, wide, seen);
    this.shade(spectrum, x(position), x(sound.end), tall, colour);
    spectrum.font = `${11 * scale}px system-ui, sans-serif`;
    if (take.prompt) {
      this.join(wave, across(take.prompt), height, colour);
      this.join(spectrum, x(take.prompt), tall, colour);
      spectrum.fillStyle = colour("ink");
      spectrum.textBaseline = "top";
      spectrum.lineWidth = 3 * scale;
      spectrum.strokeStyle = colour("paper");
      // Not over the frequencies, which stand at the left.
      const beside = x(take.prompt) + 6 * scale;
      if (beside > 50 * scale) {
        spectrum.strokeText("the model goes on", beside, 5 * scale);
        spectrum.fillText("the model goes on", beside, 5 * scale);
      }
    }
    for (const hz of [500, 1000, 2000, 4000, 8000]) {
      const y = tall * (1 - mel(hz) / mel(rate / 2));
      spectrum.textBaseline = "middle";
      spectrum.lineWidth = 3 * scale;
      spectrum.strokeStyle = colour("paper");
      spectrum.fillStyle = colour("ink");
      spectrum.strokeText(hz < 1000 ? `${hz} Hz` : `${hz / 1000} kHz`, 5 * scale, y);
      spectrum.fillText(hz < 1000 ? `${hz} Hz` : `${hz / 1000} kHz`, 5 * scale, y);
    }
    this.codeCanvases.forEach((canvas, i) => {
      const [context, , high] = fitted(canvas);
      this.codes[i].draw(context, high, left, wide, seen);
      if (take.prompt) this.join(context, x(take.prompt), high, colour);
      this.shade(context, x(position), x(sound.end), high, colour);
      const bits = this.bits.get(Math.floor(position / take.block))?.[take.levels[i].level];
      this.notes[i].textContent = bits === undefined ? "" : `${bits.toFixed(1)} bits a frame`;
    });
    if (this.pointed) {
      const [i, right, down] = this.pointed;
      const rows = this.codes[i].rows;
      const at = Math.floor((left + right * seen) / wide);
      const row = Math.min(rows - 1, Math.floor(down * rows));
      const value = this.codes[i].value(at, row);
      if (value >= 0) this.notes[i].textContent = `code ${value} at ${(((at + row / rows) * column) / rate).toFixed(3)} s`;
      this.dirty = true;
    }
    const [axis, , deep] = fitted(this.axis);
    axis.font = `${11 * scale}px system-ui, sans-serif`;
    axis.fillStyle = colour("faint");
    axis.textBaseline = "bottom";
    const every = columns / (rate / column) > 6 ? 1 : 0.5;
    for (let second = Math.ceil((first * column) / rate / every) * every; x(second * rate) < seen; second += every) {
      const where = x(second * rate);
      axis.fillRect(where, 0, scale, 4 * scale);
      if (where > 3 * scale && where < seen - 30 * scale && Number.isInteger(second)) axis.fillText(`${second} s`, where + 3 * scale, deep);
    }
  }

  /** Pale where nothing was heard yet, and a line where one is. */
  shade(context, now, end, height, colour) {
    const scale = window.devicePixelRatio || 1;
    context.fillStyle = colour("veil");
    context.fillRect(now, 0, Math.max(0, end - now), height);
    context.fillStyle = colour("paper");
    context.fillRect(now - 2 * scale, 0, 4 * scale, height);
    context.fillStyle = colour("mark");
    context.fillRect(now - scale, 0, 2 * scale, height);
  }

  /** Where the recording ends and the model goes on. */
  join(context, at, height, colour) {
    const scale = window.devicePixelRatio || 1;
    context.fillStyle = colour("paper");
    context.fillRect(at - scale, 0, 3 * scale, height);
    context.fillStyle = colour("ink");
    for (let y = 0; y < height; y += 8 * scale) context.fillRect(at, y, scale, 5 * scale);
  }

  tell(position) {
    const { take, sound, record } = this;
    const [at, end] = [position / take.rate, sound.end / take.rate];
    const total = record ? end : take.samples ? take.samples / take.rate : null;
    this.clockText.textContent = total === null ? time(at) : `${time(at)} of ${time(total)}`;
    const still = sound.paused || sound.over;
    this.pauseButton.textContent = still ? "Play" : "Pause";
    this.stopButton.hidden = Boolean(record);
    this.overview.setAttribute("aria-valuemax", Math.round(total ?? end));
    this.overview.setAttribute("aria-valuenow", Math.round(at));
    const gaps = sound.gaps ? ` The sound ran dry ${sound.gaps === 1 ? "once" : `${sound.gaps} times`}: this machine is too busy for level ${take.level}; a coarser one needs less.` : "";
    const what = `${take.title}, seed ${take.seed}`;
    if (record) this.say(`${what}. ${sound.over || sound.paused ? "Ready to play again" : "Playing"}; all of it is made.${gaps}`);
    else if (!sound.end) return;
    else {
      const doing = sound.paused ? "Paused" : sound.playing ? "Playing" : "Waiting for more of it";
      this.say(`${what}. ${doing}; made ${this.speed.toFixed(1)} × as fast as it plays.${gaps}`);
    }
  }

  // ------------------------------------------------------------------------------------------------------ history

  offer(record) {
    const link = (kind) => element("a", { class: "button", href: `studio/takes/${record.id}.${kind}`, download: true, id: `download-${kind}` }, `Download ${kind}`);
    this.done.hidden = false;
    this.done.replaceChildren(link("wav"), link("flac"), ...copies(record),
      element("code", { class: "command", id: "command" }, record.command));
  }

  remember(record) {
    const takes = remembered().filter(({ link }) => link !== record.link);
    takes.unshift({ ...record, when: Date.now() });
    try {
      localStorage.setItem(KEY, JSON.stringify(takes.slice(0, 50)));
    } catch {
      // A browser that keeps nothing still plays.
    }
    this.history();
  }

  async history() {
    const takes = remembered();
    if (!takes.length) {
      this.list.replaceChildren(element("p", { class: "faint" }, "Each take will be listed here with its settings, to hear it again, to download it, or to share it as a link. The list stays in this browser."));
      return;
    }
    let here = {};
    try {
      const answer = await fetch(`studio/takes?ids=${takes.map(({ id }) => id).join(",")}`);
      here = answer.ok ? await answer.json() : {};
    } catch {
      // Without the studio there is nothing to download; the settings are still worth a look.
    }
    const day = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
    this.list.replaceChildren(
      element("ol", {}, ...takes.map((take) => element("li", {},
        element("div", {}, element("b", {}, take.title), element("span", { class: "faint" }, ` seed ${take.seed}, ${take.seconds.toFixed(1)} s, down to ${take.level}x, ${day.format(take.when)}`)),
        element("div", { class: "actions" },
          element("a", { class: "button", href: `?${take.link}` }, "Settings"),
          ...(take.id in here ? ["wav", "flac"].map((kind) => element("a", { class: "button", href: `studio/takes/${take.id}.${kind}`, download: true }, kind)) : []),
          ...copies(take))))),
      element("button", { type: "button", onclick: () => { localStorage.removeItem(KEY); this.history(); } }, "Clear the list"),
    );
  }
}

/** How to read the pictures of a take, in its own numbers. */
function explain({ levels, column, rate }) {
  const number = (value) => Math.round(value).toLocaleString("en");
  const counts = levels.map(({ level }) => column / level);
  const [most] = levels.filter(({ made }) => made);
  const paragraphs = [
    `The piece is made at ${levels.length === 1 ? "one level" : `${levels.length} levels`}. Level ${levels[0].level} has one code for ${levels[0].level} samples, ${number(rate / levels[0].level)} a second; each level below has more of them and fills in detail, and the last one is decoded into sound.`,
    `In a coloured row each column is ${number(column)} samples. In it stand the codes of that moment (${counts.join(", ")} of them at levels ${levels.map(({ level }) => level).join(", ")}), from top to bottom: every code of the music is a point. Codes that mean something alike have a similar shade, and dark is quiet. Slanted stripes are tones: the steeper, the further from a whole number of waves in a column.`,
    `“bits a frame” says how surprised the model is by what it plays: 0 is certain, ${most.most_bits.toFixed(0)} is a guess among all ${number(most.num_codes)} codes. What is pale to the right of the line is made already, and not yet heard. Click on the waveform to hear it from there.`,
  ];
  return paragraphs.map((words) => element("p", {}, words));
}

function copies(record) {
  return [
    element("button", { type: "button", onclick: (event) => copy(new URL(`?${record.link}`, location.origin + location.pathname).href, event.target) }, "Copy link"),
    element("button", { type: "button", title: record.command, onclick: (event) => copy(record.command, event.target) }, "Copy command"),
  ];
}

function remembered() {
  try {
    return JSON.parse(localStorage.getItem(KEY)) ?? [];
  } catch {
    return [];
  }
}
