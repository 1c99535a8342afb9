// Pictures that grow to the right, and their colours.

import { element, readJson } from "./dom.js";

export const PAGE = 256; // columns of pictures drawn on one canvas
const MOST_PEAKS = 8000; // of an outline; more would be finer than a screen
const WAVES = ["#3b0f70", "#641a80", "#8c2981", "#b73779", "#de4968", "#f7705c", "#fe9f6d", "#fecf92"];
const PAPER = [246, 242, 234]; // silence in the light theme, `--picture`
const PALE = 96; // the value up to which the light theme's colours approach PAPER
const FAINTEST = -58; // dB; softer notes are the noise of a pause

let palettes = null;

const light = () => document.documentElement.dataset.theme === "light";

/** Bytes -> 32 bit pixels in the theme's colours: `sound` and `codes`. */
export async function tables() {
  palettes ??= readJson("studio/static/palettes.json");
  const { viridis, magma } = await palettes;
  const pixel = ([r, g, b]) => (255 << 24) | (b << 16) | (g << 8) | r;
  const fade = (colour, i) => colour.map((part, k) => part + Math.max(0, 1 - i / PALE) * (PAPER[k] - part));
  const sound = light() ? [...magma].reverse().map(fade) : magma;
  return { codes: Uint32Array.from(viridis, pixel), sound: Uint32Array.from(sound, pixel) };
}

export function ink() {
  const style = getComputedStyle(document.documentElement);
  return (name) => style.getPropertyValue(`--${name}`).trim();
}

export function fitted(canvas) {
  const scale = window.devicePixelRatio || 1;
  const [width, height] = [Math.round(canvas.clientWidth * scale), Math.round(canvas.clientHeight * scale)];
  if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, width, height);
  context.imageSmoothingEnabled = false;
  return [context, width, height, scale];
}

/** One picture that grows to the right: spectrogram or codes, `rows` high, PAGE columns a canvas.
 *  shades: of each code, for each row or one for all; null: values are colours. */
export class Strip {
  constructor(rows, shades, flip) {
    Object.assign(this, { rows, shades, flip, pages: new Map(), count: 0 });
  }

  /** Append values, column by column. The last column may be short. */
  append(values, table) {
    const first = Math.floor(this.count / this.rows);
    for (const value of values) {
      const column = Math.floor(this.count / this.rows);
      this.page(Math.floor(column / PAGE)).values[(column % PAGE) * this.rows + (this.count++ % this.rows)] = value + 1;
    }
    if (values.length) this.paint(first, Math.floor((this.count - 1) / this.rows), table);
  }

  /** A canvas and its values plus one; 0 is empty. */
  page(index) {
    if (!this.pages.has(index)) this.pages.set(index, { canvas: element("canvas", { width: PAGE, height: this.rows }), values: new Uint16Array(PAGE * this.rows) });
    return this.pages.get(index);
  }

  paint(first, last, table) {
    for (let index = Math.floor(first / PAGE); index <= Math.floor(last / PAGE); index++) {
      const page = this.pages.get(index);
      if (!page) continue;
      const from = Math.max(first - index * PAGE, 0);
      const to = Math.min(last - index * PAGE, PAGE - 1);
      const context = page.canvas.getContext("2d");
      const image = context.createImageData(to - from + 1, this.rows);
      const pixels = new Uint32Array(image.data.buffer);
      for (let x = from; x <= to; x++) {
        for (let y = 0; y < this.rows; y++) {
          const row = this.flip ? this.rows - 1 - y : y;
          const value = page.values[x * this.rows + row];
          const shades = this.shades && (this.shades[row] ?? this.shades[0]);
          if (value) pixels[y * image.width + x - from] = table[shades ? shades[value - 1] : value - 1];
        }
      }
      context.putImageData(image, from, 0);
    }
  }

  repaint(table) { this.paint(0, Math.floor(this.count / this.rows), table); }

  forget(column) {
    for (const index of this.pages.keys()) if ((index + 1) * PAGE < column) this.pages.delete(index);
  }

  draw(context, height, left, wide, width) {
    for (const [index, page] of this.pages) {
      const x = index * PAGE * wide - left;
      if (x < width && x + PAGE * wide > 0) context.drawImage(page.canvas, x, 0, PAGE * wide, height);
    }
  }
}

/** The codes of a level. Frames of one code stand one under the other in columns of `column` samples, the first on top;
 *  a frame of several books is a column of its own, its first book at the bottom. */
export class Codes extends Strip {
  constructor({ level, books, shades }, column) {
    super(books > 1 ? books : column / level, shades.map((row) => Uint8Array.from(row)), books > 1);
    Object.assign(this, { level, books, each: books > 1 ? level : column });
  }

  /** The height in pixels at which rows are a little higher than wide, up to `most`. */
  high(most) { return Math.min(most, Math.max(most / 3, 5 * this.rows)); }
}

/** The row of note `midi` in a spectrogram of quarter tones from note `lowest` up. */
function noteHeight(midi, { lowest, bands }, height) { return height * (1 - (2 * (midi - lowest) + 0.5) / bands); }

/** The note at a share of the height, from the top: the inverse of `noteHeight`. */
export const pitchAt = (down, { lowest, bands }) => Math.round(lowest + ((1 - down) * bands - 0.5) / 2);

export function drawOctaves(context, about, width, height, scale) {
  context.save();
  context.font = `${11 * scale}px system-ui, sans-serif`;
  context.textBaseline = "middle";
  for (let midi = Math.ceil(about.lowest / 12) * 12; midi < about.lowest + about.bands / 2; midi += 12) {
    const y = Math.round(noteHeight(midi, about, height));
    context.fillStyle = ink()("grid");
    context.fillRect(30 * scale, y, width, Math.max(1, Math.round(scale / 2)));
    // In a low picture the name at the lower edge would touch the next one.
    if (y <= height - 8 * scale || height > about.bands * scale) write(context, `C${midi / 12 - 1}`, 6 * scale, Math.min(y, height - 8 * scale), scale);
  }
  context.restore();
}

export function write(context, words, x, y, scale) {
  context.lineWidth = 3 * scale;
  context.lineJoin = "round";
  const colour = ink();
  context.strokeStyle = colour("halo");
  context.fillStyle = colour("on-picture");
  context.strokeText(words, x, y);
  context.fillText(words, x, y);
}

/** Paint the notes in view, rows [second, seconds, midi, …]. alpha: of a row. */
function paintNotes(context, rows, about, height, x, scale, colour, tall, alpha) {
  context.save();
  context.fillStyle = ink()(colour);
  for (const [second, seconds, midi, strength] of rows) {
    const [left, right] = [x(second), x(second + seconds)];
    if (right < 0 || left > context.canvas.width) continue;
    context.globalAlpha = alpha(strength);
    context.fillRect(left, noteHeight(midi, about, height) - tall / 2, Math.max(2 * scale, right - left - scale), tall);
  }
  context.restore();
}

/** The notes that are heard, as on a piano roll: rows [second, seconds, midi, dB]. faint: behind the notes of a score. */
export function drawNotes(context, rows, about, height, x, scale, faint) {
  const alpha = (strength) => Math.min(0.9, Math.max(0.15, (strength + 50) / 45)) * (faint ? 0.3 : 1);
  const loud = rows.filter(([, , , strength]) => strength >= FAINTEST);
  paintNotes(context, loud, about, height, x, scale, "on-picture", Math.max(2 * scale, (height / about.bands) * 1.2), alpha);
}

/** The notes of a score, bold: rows [second, seconds, midi]. */
export function drawScore(context, rows, about, height, x, scale) {
  paintNotes(context, rows, about, height, x, scale, "mark", Math.max(3 * scale, (height / about.bands) * 2), () => 1);
}

/** The playhead, and a veil over the samples that are not heard yet. */
export function drawPlayhead(context, now, end, height, glow) {
  const scale = window.devicePixelRatio || 1;
  const colour = ink();
  context.save();
  context.fillStyle = colour("unheard");
  context.fillRect(now, 0, Math.max(0, end - now), height);
  if (glow) {
    const wide = 70 * scale;
    const shine = context.createLinearGradient(now - wide, 0, now, 0);
    shine.addColorStop(0, `rgb(${colour("glow")} / 0%)`);
    shine.addColorStop(1, `rgb(${colour("glow")} / 24%)`);
    context.fillStyle = shine;
    context.fillRect(now - wide, 0, wide, height);
  }
  context.fillStyle = colour("mark");
  context.fillRect(now - scale, 0, 2 * scale, height);
  context.restore();
}

export function drawJoin(context, at, height) {
  const scale = window.devicePixelRatio || 1;
  context.fillStyle = ink()("on-picture");
  for (let y = 0; y < height; y += 8 * scale) context.fillRect(at, y, scale, 5 * scale);
}

export function drawIdle(context, width, height, scale) {
  const back = context.createLinearGradient(0, 0, 0, height);
  back.addColorStop(0, ink()("idle-top"));
  back.addColorStop(1, ink()("idle-bottom"));
  context.fillStyle = back;
  context.fillRect(0, 0, width, height);
  context.save();
  Object.assign(context, { globalCompositeOperation: light() ? "multiply" : "lighter", globalAlpha: 0.55, lineWidth: 1.6 * scale });
  WAVES.forEach((colour, i) => {
    const y = (at) => height * (0.5 + Math.sin(Math.PI * at) ** 1.5 * 0.2 * (Math.sin(at * (5 + i * 1.3) + 1.2 * i) + 0.5 * Math.sin(at * (13 - i) + 2 * i)) + (i - 3.5) * 0.035);
    context.strokeStyle = colour;
    context.stroke(new Path2D(`M${Array.from({ length: 201 }, (_, k) => `${(k / 200) * width},${y(k / 200)}`).join("L")}`));
  });
  context.restore();
}

/** The peaks of a signal of any length, of `each` samples; pairs are merged when there are too many. */
export class Outline {
  constructor(each) {
    Object.assign(this, { each, peaks: [], samples: 0 });
  }

  append(samples) {
    for (const sample of samples) {
      const i = Math.floor(this.samples++ / this.each);
      this.peaks[i] = Math.max(this.peaks[i] ?? 0, Math.abs(sample));
    }
    if (this.peaks.length <= MOST_PEAKS) return;
    this.peaks = Array.from({ length: Math.ceil(this.peaks.length / 2) }, (_, i) => Math.max(this.peaks[2 * i], this.peaks[2 * i + 1] ?? 0));
    this.each *= 2;
  }

  /** The loudness of the first `total` samples in up to `count` bytes. */
  bytes(count, total) {
    const peaks = Math.min(this.peaks.length, Math.ceil(total / this.each));
    const size = Math.min(count, peaks);
    const at = (i) => Math.floor((i * peaks) / size);
    return Array.from({ length: size }, (_, i) => Math.round(Math.min(255, Math.max(...this.peaks.slice(at(i), Math.max(at(i + 1), at(i) + 1))) / 128)));
  }
}

/** Bytes of loudness as bars about the middle, up to a width. */
export function bars(context, bytes, width, height, colour) {
  context.fillStyle = colour;
  const peak = Math.max(24, ...bytes);
  for (let x = 0; x < width; x++) {
    const tall = Math.max(1, (bytes[Math.floor((x / width) * bytes.length)] / peak) * height * 0.94);
    context.fillRect(x, (height - tall) / 2, 1, tall);
  }
}

export function drawBars(canvas, bytes, colour) {
  const [context, width, height] = fitted(canvas);
  bars(context, bytes, width, height, colour);
  return [context, width, height];
}
