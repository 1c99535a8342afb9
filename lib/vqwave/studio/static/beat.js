// The form of a score: tempo, key, beats, bars and sections, in numbers and as lines that run ahead of the sound.

import { byId } from "./dom.js";
import { ink, write } from "./pictures.js";

const NAMES = ["C", "C♯", "D", "E♭", "E", "F", "F♯", "G", "A♭", "A", "B♭", "B"];
// How well a tone fits in a key of C (Krumhansl 1990), as `KEY_PROFILES` of dsp/notes.py has them.
const PROFILES = { major: [6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88], minor: [6.33, 2.68, 3.52, 5.38, 2.6, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17] };
const HEARD = 15; // seconds of notes that tell the key
const SAME = 0.05; // seconds by which a section may move

/** The likeliest key of notes, rows [second, seconds, midi]; "" of none. */
export function keyOf(rows) {
  const tones = Array(12).fill(0);
  for (const [, seconds, midi] of rows) tones[midi % 12] += Math.min(seconds, 1);
  if (!rows.length) return "";
  const centre = (values, mean = values.reduce((sum, x) => sum + x, 0) / 12) => values.map((x) => x - mean);
  const fits = Object.entries(PROFILES).flatMap(([mode, profile]) => NAMES.map((name, tonic) => {
    const [a, b] = [centre(tones), centre(tones.map((_, tone) => profile[(tone - tonic + 12) % 12]))];
    return [a.reduce((sum, x, i) => sum + x * b[i], 0) / (Math.hypot(...a) * Math.hypot(...b) || 1), `${name} ${mode}`];
  }));
  return fits.reduce((best, fit) => (fit[0] > best[0] ? fit : best))[1];
}

function nameOf({ number, returns }) {
  const name = number ? `section ${String.fromCharCode(65 + (number % 26))}` : "the theme";
  return returns ? `${name} again` : name;
}

export class Beats {
  constructor() {
    Object.assign(this, { tempo: 0, beats: [], sections: [] });
  }

  /** Take over the form in the message of a block that begins at second `start`. */
  hear(form, start) {
    if (!form) return;
    this.tempo = form.tempo;
    this.beats = [...this.beats.filter(([second]) => second < start), ...form.beats];
    const last = this.sections.at(-1);
    const { second, number, returns } = form.section;
    const same = last && last.number === number && last.returns === returns && Math.abs(last.second - second) < SAME;
    if (!same) this.sections = [...this.sections.filter((section) => section.second < Math.min(start, second - SAME)), form.section];
  }

  forget(second) {
    while (this.beats.length && this.beats[0][0] < second) this.beats.shift();
    while (this.sections.length > 1 && this.sections[1].second < second) this.sections.shift();
  }

  /** Write what sounds at a second: "96 bpm · D minor · the theme · bar 3, beat 2". */
  tell(second, score) {
    const now = this.beats.findLastIndex(([begin]) => begin <= second);
    const section = this.sections.findLast((one) => one.second <= second + SAME);
    const sounding = score.filter(([begin]) => begin > second - HEARD && begin <= second);
    const parts = now < 0 ? [] : [`${Math.round(this.tempo)} bpm`, keyOf(sounding)];
    if (section && now >= 0) {
      const bars = this.beats.filter(([begin, place], i) => i <= now && place === 0 && begin >= section.second - SAME).length;
      parts.push(nameOf(section), ...(bars ? [`bar ${bars}, beat ${this.beats[now][1] + 1}`] : []));
    }
    const words = parts.filter(Boolean).join(" · ");
    if (byId("beat").textContent !== words) byId("beat").textContent = words;
  }

  /** Draw the beats and bars in view, and the names of the sections. x: the pixel of a second. */
  draw(context, x, width, height, scale) {
    context.save();
    context.fillStyle = ink()("grid");
    for (const [second, place] of this.beats) {
      const at = x(second);
      if (at < 0 || at > width) continue;
      context.globalAlpha = place ? 0.5 : 1;
      context.fillRect(at, place ? height * 0.94 : 0, Math.max(1, (place ? 1 : 1.5) * scale), height);
    }
    context.restore();
    context.font = `600 ${11 * scale}px system-ui, sans-serif`;
    context.textBaseline = "bottom";
    for (const section of this.sections) {
      const at = x(section.second);
      if (at > -200 * scale && at < width) write(context, nameOf(section), Math.max(at, 36 * scale) + 4 * scale, height - 4 * scale, scale);
    }
  }
}
