// A recording: dropped in, from the microphone, or one of the clips.

import { alertIn, button, element, time } from "./dom.js";
import { drawBars, ink } from "./pictures.js";
import { claim } from "./sound.js";
import { answer, ask, inWords, send } from "./wire.js";

export class RecordingBox extends EventTarget {
  /** about: the answer of `studio/about`; name: prefix of the elements' ids; most: longest region in seconds. */
  constructor(about, name, seconds, most) {
    super();
    Object.assign(this, { about, name, most, recording: null, asked: 0 });
    const id = (part) => `${name}-${part}`;
    const number = (part, label, value) => element("label", {}, `${label} `, element("input", { type: "number", id: id(part), value, min: 0, step: "any", oninput: () => this.change() }));
    this.root = element("div", { class: "recording" },
      (this.drop = element("label", { class: "drop" }, "Drop a recording here, or ", element("u", {}, "choose a file"),
        (this.file = element("input", { type: "file", id: id("file"), accept: about.formats.map((kind) => `.${kind}`).join(",") + ",audio/*,.mid", class: "hidden", "aria-label": "Recording" })))),
      element("div", { class: "buttons" },
        (this.mic = button("Record", () => this.record(), { id: id("mic"), class: "small" })),
        ...Object.entries(about.clips).map(([key, title]) => button(title, () => this.load(answer(ask(`studio/clips/${key}`, {}))), { class: "small clip" }))),
      (this.said = element("p", { class: "faint", role: "status", id: id("said") }, `${about.formats.join(", ")}, up to ${about.longest_recording / 60} minutes.`)),
      (this.box = element("p", { class: "alert", role: "alert", hidden: true })),
      (this.seen = element("div", { class: "seen", hidden: true },
        (this.canvas = element("canvas", { role: "img", "aria-label": "Waveform of the recording, with the part that is used" })),
        element("div", { class: "row" }, number("start", "From second", 0), number("seconds", "Seconds", seconds),
          (this.audio = element("audio", { controls: true, preload: "none", id: id("hear"), "aria-label": "The chosen part", onplay: () => claim(this.audio) }))))));
    if (!navigator.mediaDevices?.getUserMedia) Object.assign(this.mic, { disabled: true, title: "Browsers give the microphone only to pages of this machine, or over https." });
    this.file.addEventListener("change", () => {
      if (this.file.files[0]) this.upload(this.file.files[0], this.file.files[0].name);
      this.file.value = ""; // the same file may be chosen again
    });
    for (const kind of ["dragover", "dragleave", "drop"]) document.addEventListener(kind, () => this.drop.classList.toggle("over", kind === "dragover"));
    this.canvas.addEventListener("pointerdown", (event) => this.grab(event));
    new ResizeObserver(() => this.draw()).observe(this.canvas);
  }

  field(part) { return this.root.querySelector(`#${this.name}-${part}`); }
  get start() { return Math.max(0, Number(this.field("start").value) || 0); }
  get seconds() { return Number(this.field("seconds").value); }
  values() { return { recording: this.recording?.id ?? "", name: this.recording?.name ?? "", start: this.start, seconds: this.seconds }; }

  upload(file, name) {
    if (file.size > this.about.upload_bytes) return this.refuse(`${name}: larger than ${this.about.upload_bytes >> 20} MB; cut it, or convert it to mp3 or flac.`);
    this.said.textContent = `Reading ${name} …`;
    return this.load(this.send(file, name));
  }

  /** Send a file, unless it is longer than a recording may be, as far as the browser knows. */
  async send(file, name) {
    const probe = new Audio(URL.createObjectURL(file));
    await new Promise((known) => (probe.onloadedmetadata = probe.onerror = known));
    URL.revokeObjectURL(probe.src);
    const most = this.about.longest_recording;
    if (Number.isFinite(probe.duration) && probe.duration > most) throw new Error(`${name}: ${time(probe.duration)} long, but a recording may last ${most / 60} minutes; cut it.`);
    return send(file, name);
  }

  refuse(words) {
    this.said.textContent = this.recording ? this.saying() : "";
    alertIn(this.box, words);
  }

  saying() { return `${this.recording.name}: ${time(this.recording.seconds)} long, ready.`; }

  /** Show the recording that a promise brings; the last call wins. */
  async load(promise) {
    const asked = ++this.asked;
    this.audio.pause();
    alertIn(this.box, "");
    this.pending = promise.catch(() => null);
    try {
      const recording = await promise;
      if (asked === this.asked) this.show(recording);
    } catch (error) { if (asked === this.asked) this.refuse(inWords(error)); }
  }

  show(recording) {
    this.recording = recording;
    this.seen.hidden = false;
    this.said.textContent = this.saying();
    if (this.start >= recording.seconds) this.field("start").value = 0;
    this.field("seconds").value = Number(Math.min(this.seconds || this.most, this.most, recording.seconds).toFixed(2));
    this.change();
    this.dispatchEvent(new Event("recording"));
  }

  change() {
    this.audio.src = `studio/recordings/${this.recording?.id}.wav?${this.whole ? "start=0" : `start=${this.start}&seconds=${Math.min(this.seconds, this.about.longest_excerpt)}`}`;
    this.draw();
  }

  grab(event) {
    const { recording, canvas } = this;
    if (!recording || this.whole) return;
    const at = (e) => Math.min(1, Math.max(0, (e.clientX - canvas.getBoundingClientRect().left) / canvas.clientWidth)) * recording.seconds;
    const near = (10 / canvas.clientWidth) * recording.seconds;
    const [begin, end] = [this.start, this.start + this.seconds];
    const point = at(event);
    const fixed = Math.abs(point - begin) < near ? end : Math.abs(point - end) < near ? begin : point;
    const move = (e) => {
      const [low, high] = [Math.min(fixed, at(e)), Math.max(fixed, at(e))];
      this.field("start").value = Number((at(e) < fixed ? Math.max(low, fixed - this.most) : low).toFixed(2));
      this.field("seconds").value = Number(Math.min(Math.max(high - low, 0.1), this.most).toFixed(2));
      this.draw();
    };
    canvas.setPointerCapture(event.pointerId);
    canvas.addEventListener("pointermove", move);
    canvas.addEventListener("pointerup", () => {
      canvas.removeEventListener("pointermove", move);
      this.change();
      this.dispatchEvent(new Event("region"));
    }, { once: true });
  }

  showRegion(shown) {
    this.whole = !shown;
    if (this.recording) this.change();
  }

  draw() {
    const { recording, canvas } = this;
    if (!recording || !canvas.clientWidth) return;
    const colour = ink();
    const [context, width, height] = drawBars(canvas, recording.outline, colour("wave"));
    if (this.whole) return;
    const [left, right] = [this.start, this.start + this.seconds].map((second) => Math.min(width, (second / recording.seconds) * width));
    context.fillStyle = colour("veil");
    context.fillRect(0, 0, left, height);
    context.fillRect(right, 0, width - right, height);
    context.fillStyle = colour("mark");
    for (const x of [left, right]) context.fillRect(Math.min(Math.max(0, x - 2), width - 4), 0, 4, height);
  }

  async record() {
    if (this.recorder) return this.recorder.stop();
    try {
      const stream = await navigator.mediaDevices.getUserMedia({ audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false } });
      claim({ pause() {} });
      const parts = [];
      const recorder = (this.recorder = new MediaRecorder(stream));
      recorder.ondataavailable = ({ data }) => parts.push(data);
      recorder.onstop = () => {
        this.recorder = null;
        this.mic.textContent = "Record";
        for (const track of stream.getTracks()) track.stop();
        this.upload(new Blob(parts), "microphone.webm");
      };
      // A microphone may need a second to start.
      recorder.onstart = () => (this.said.textContent = "Recording …");
      this.said.textContent = "Waiting for the microphone …";
      recorder.start();
      this.mic.textContent = "Stop recording";
    } catch { this.refuse("The browser does not let this page use a microphone."); }
  }
}
