// Pictures that grow to the right, and their colours.

import { dark, element } from "./dom.js";

export const PAGE = 256; // columns of pictures drawn on one canvas
const MOST_PAIRS = 8000; // of an outline; more are finer than a screen

let palettes = null;

export async function colours() {
  palettes ??= fetch("studio/palettes").then((answer) => answer.json());
  return palettes;
}

export function ink() {
  const style = getComputedStyle(document.body);
  return (name) => style.getPropertyValue(`--vq-${name}`).trim();
}

/** Bytes -> 32 bit pixels. Spectrograms are loud where they stand out from the paper: bright on dark, dark on light. */
export function tables({ viridis, magma }) {
  const pixel = ([r, g, b]) => (255 << 24) | (b << 16) | (g << 8) | r;
  return { codes: Uint32Array.from(viridis, pixel), sound: Uint32Array.from(dark() ? magma : [...magma].reverse(), pixel) };
}

/** A canvas as sharp as the screen. */
export function fitted(canvas) {
  const scale = window.devicePixelRatio || 1;
  const [width, height] = [Math.round(canvas.clientWidth * scale), Math.round(canvas.clientHeight * scale)];
  if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, width, height);
  context.imageSmoothingEnabled = false;
  return [context, width, height, scale];
}

/** One picture that grows to the right: spectrogram or codes, `rows` high, PAGE columns a canvas. */
export class Strip {
  constructor(rows, kind, shades, flip) {
    Object.assign(this, { rows, kind, shades, flip, pages: new Map(), count: 0 });
  }

  /** Append values; in a column they stand one after the other. The last column may be short. */
  append(values, table) {
    const columns = new Set();
    for (let i = 0; i < values.length; i++, this.count++) {
      const column = Math.floor(this.count / this.rows);
      const page = this.page(Math.floor(column / PAGE));
      page.values[(column % PAGE) * this.rows + (this.count % this.rows)] = values[i] + 1;
      columns.add(column);
    }
    if (columns.size) this.paint(Math.min(...columns), Math.max(...columns), table);
  }

  page(index) {
    let page = this.pages.get(index);
    if (!page) {
      const canvas = element("canvas", { width: PAGE, height: this.rows });
      // 0 is nothing; a value is one more than itself.
      page = { canvas, values: new Uint16Array(PAGE * this.rows) };
      this.pages.set(index, page);
    }
    return page;
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
          const value = page.values[x * this.rows + (this.flip ? this.rows - 1 - y : y)];
          if (value) pixels[y * image.width + x - from] = table[this.shades ? this.shades[value - 1] : value - 1];
        }
      }
      context.putImageData(image, from, 0);
    }
  }

  repaint(table) {
    for (const index of this.pages.keys()) this.paint(index * PAGE, index * PAGE + PAGE - 1, table);
  }

  forget(column) {
    for (const index of this.pages.keys()) if ((index + 1) * PAGE < column) this.pages.delete(index);
  }

  value(column, row) {
    const page = this.pages.get(Math.floor(column / PAGE));
    return page ? page.values[(column % PAGE) * this.rows + row] - 1 : -1;
  }

  draw(context, height, left, wide, width) {
    for (const [index, page] of this.pages) {
      const x = index * PAGE * wide - left;
      if (x < width && x + PAGE * wide > 0) context.drawImage(page.canvas, x, 0, PAGE * wide, height);
    }
  }
}

/** The outline of a whole signal, however long: pairs of columns are merged when there are too many. */
export class Outline {
  constructor(each) {
    Object.assign(this, { each, low: [], high: [], open: 0, samples: 0 });
  }

  append(samples) {
    for (let at = 0; at < samples.length; ) {
      if (!this.open) {
        this.low.push(0);
        this.high.push(0);
      }
      const end = Math.min(samples.length, at + this.each - this.open);
      let [low, high] = [this.low.at(-1), this.high.at(-1)];
      for (let i = at; i < end; i++) {
        if (samples[i] < low) low = samples[i];
        else if (samples[i] > high) high = samples[i];
      }
      this.low[this.low.length - 1] = low;
      this.high[this.high.length - 1] = high;
      this.open = (this.open + end - at) % this.each;
      at = end;
    }
    this.samples += samples.length;
    if (this.low.length > MOST_PAIRS && !this.open && this.low.length % 2 === 0) {
      const merge = (pick) => (list) => Array.from({ length: list.length / 2 }, (_, i) => pick(list[2 * i], list[2 * i + 1]));
      this.low = merge(Math.min)(this.low);
      this.high = merge(Math.max)(this.high);
      this.each *= 2;
    }
  }

  draw(context, width, height, total, colour) {
    context.fillStyle = colour;
    const perPixel = total / this.each / width;
    const peak = this.high.reduce((most, high, i) => Math.max(most, high, -this.low[i]), 3000);
    for (let x = 0; x < width; x++) {
      const [from, to] = [Math.floor(x * perPixel), Math.max(Math.floor((x + 1) * perPixel), Math.floor(x * perPixel) + 1)];
      if (from >= this.low.length) break;
      let [low, high] = [0, 0];
      for (let i = from; i < Math.min(to, this.low.length); i++) {
        low = Math.min(low, this.low[i]);
        high = Math.max(high, this.high[i]);
      }
      const [top, bottom] = [(0.5 - (0.47 * high) / peak) * height, (0.5 - (0.47 * low) / peak) * height];
      context.fillRect(x, top, 1, Math.max(1, bottom - top));
    }
  }
}

/** Slaney's mel scale, as librosa's. */
export function mel(hz) {
  return hz < 1000 ? (hz * 3) / 200 : 15 + (27 * Math.log(hz / 1000)) / Math.log(6.4);
}
