// MIDI: keys hold notes, a clock sets the tempo, knobs and pads move the controls that they have learnt, and the score goes out.

import { byId, element, keep, recall } from "./dom.js";

const CLOCK = { message: 0xf8, ticks: 24, beats: 4, pause: 250, change: 0.75 }; // as `Clock` of play/midi.py has them
const [ON, OFF, KNOB] = [0x90, 0x80, 0xb0];
const AHEAD = 0.25; // seconds of notes that are sent ahead
const VELOCITY = 80;
const KEY = "vqwave.midi";

const selector = (one) => (one.id ? `#${one.id}` : `[aria-label="${one.getAttribute("aria-label")}"]`);

export class Midi {
  /** hold: receives a note, and whether it is down. follow: receives a tempo. */
  constructor(player, hold, follow) {
    Object.assign(this, { player, hold, follow, learnt: recall(KEY, {}), output: null, sent: null });
    byId("midi").hidden = byId("learn").hidden = !navigator.requestMIDIAccess;
    byId("midi").addEventListener("click", () => this.listen());
    byId("learn").addEventListener("click", async () => {
      if (this.learning) return this.learn(false);
      await this.listen();
      this.learn(true);
    });
    for (const kind of ["pointerdown", "focusin"]) byId("music").addEventListener(kind, ({ target }) => {
      const one = this.learning && target.closest(".steer input[type=range], .steer button, .transport button, .tools button");
      if (!one || one.id === "learn" || one.id === "midi") return;
      this.chosen = selector(one);
      byId("learn").textContent = `Now move a knob for “${one.getAttribute("aria-label") || one.textContent.trim()}”`;
    });
    setInterval(() => this.play(), 100);
  }

  learn(on) {
    Object.assign(this, { learning: on, chosen: null });
    byId("learn").setAttribute("aria-pressed", String(on));
    byId("learn").textContent = on ? "Touch a control" : "MIDI learn";
  }

  /** Listen to every MIDI input that the browser offers, and offer its outputs. */
  async listen() {
    try {
      const access = (this.access = await navigator.requestMIDIAccess());
      const connect = () => {
        for (const input of access.inputs.values()) input.onmidimessage = ({ data, timeStamp }) => this.hear(data, timeStamp);
        const outputs = [...(access.outputs?.values() ?? [])];
        byId("midi-out").parentElement.hidden = !outputs.length;
        byId("midi-out").replaceChildren(...["", ...outputs.map(({ name }) => name)].map((name) => element("option", { value: name }, name || "nothing")));
      };
      access.onstatechange = () => {
        connect();
        for (const note of [...this.player.turns.held]) this.hold(note, false); // a disconnected keyboard does not release its notes
      };
      connect();
      byId("midi").textContent = access.inputs.size ? "Listening to MIDI" : "No MIDI keyboard is connected";
    } catch { byId("midi").textContent = "The browser does not allow MIDI"; }
  }

  hear([status, number, value], time) {
    if (status === CLOCK.message) return this.tick(time);
    const kind = status & 0xf0;
    const name = `${kind === OFF ? ON : kind} ${number}`;
    if (this.chosen && (kind === KNOB || kind === ON)) {
      keep(KEY, (this.learnt = { ...this.learnt, [name]: this.chosen }));
      this.learn(true);
    } else if (this.learnt[name]) this.move(document.querySelector(this.learnt[name]), kind === OFF ? 0 : value / 127);
    else if (kind === ON || kind === OFF) this.hold(number, kind === ON && value > 0);
  }

  move(one, share) {
    if (!one || one.disabled) return;
    if (one.type !== "range") return void (share && one.click());
    one.value = Number(one.min) + share * (one.max - one.min);
    one.dispatchEvent(new Event("input"));
  }

  /** Handle a message of a clock. After each beat but the first, the mean tempo of the last beats is set. time: in milliseconds. */
  tick(time) {
    if (time - this.ticks?.at(-1) < CLOCK.pause) this.ticks.push(time);
    else [this.ticks, this.ticked] = [[time], 0];
    this.ticks = this.ticks.slice(-CLOCK.ticks * CLOCK.beats - 1);
    const count = this.ticked++;
    if (count < 2 * CLOCK.ticks || count % CLOCK.ticks) return;
    this.follow((60000 * (this.ticks.length - 1)) / CLOCK.ticks / (time - this.ticks[0]), CLOCK.change);
  }

  play() {
    const { sound, take, score } = this.player;
    const output = [...(this.access?.outputs?.values() ?? [])].find(({ name }) => name === byId("midi-out").value);
    const now = sound?.playing ? sound.position / take.rate : null;
    if (output !== this.output || (now === null) !== (this.sent === null) || Math.abs(now + AHEAD - this.sent) > 2 * AHEAD) {
      this.output?.send([KNOB, 123, 0]); // all notes off
      [this.output, this.sent] = [output, now];
    }
    if (!output || now === null) return;
    const due = score.filter(([begin]) => begin > this.sent && begin <= now + AHEAD);
    for (const [begin, seconds, midi] of due) {
      const at = performance.now() + 1000 * (begin - now);
      output.send([ON, midi, VELOCITY], at);
      output.send([OFF, midi, 0], at + 1000 * seconds);
    }
    this.sent = now + AHEAD;
  }
}
