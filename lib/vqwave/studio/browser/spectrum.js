// The spectrogram that the page shows, in quarter tones (`studio/pictures.py`).

/** In place, the Fourier transform of 2^n complex numbers. */
function transform(re, im) {
  const n = re.length;
  for (let i = 1, j = 0; i < n; i++) {
    let bit = n >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) [re[i], re[j], im[i], im[j]] = [re[j], re[i], im[j], im[i]];
  }
  for (let size = 2; size <= n; size *= 2) {
    const half = size / 2;
    for (let k = 0; k < half; k++) {
      const [cos, sin] = [Math.cos((-2 * Math.PI * k) / size), Math.sin((-2 * Math.PI * k) / size)];
      for (let i = k; i < n; i += size) {
        const [x, y] = [re[i + half] * cos - im[i + half] * sin, re[i + half] * sin + im[i + half] * cos];
        [re[i + half], im[i + half]] = [re[i] - x, im[i] - y];
        re[i] += x;
        im[i] += y;
      }
    }
  }
}

export class Spectrum {
  constructor({ rate, column, picture }) {
    Object.assign(this, { column, ...picture, signal: new Float32Array(0), first: 0, next: 0 });
    const n = this.n_fft;
    this.hann = Float32Array.from({ length: n }, (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / n));
    this.filters = Array.from({ length: this.bands }, (_, band) => {
      const centre = this.lowest_hz * 2 ** (band / 24);
      const half = Math.max(centre * (2 ** (1 / 24) - 1), (1.5 * rate) / n);
      const from = Math.max(0, Math.ceil(((centre - half) * n) / rate));
      const weights = [];
      for (let bin = from; bin <= Math.min(n / 2, ((centre + half) * n) / rate); bin++) weights.push((1 - Math.abs((bin * rate) / n - centre) / half) / (1.5 * (n / 4) ** 2));
      return { from, weights };
    });
  }

  /** Append samples: the columns that are ready now, one after the other. */
  push(block) {
    const joined = new Float32Array(this.signal.length + block.length);
    joined.set(this.signal);
    joined.set(block, this.signal.length);
    const { n_fft: n, column } = this;
    const columns = [];
    for (; this.next * column + n / 2 <= this.first + joined.length; this.next++) columns.push(...this.at(joined, this.next * column - n / 2 - this.first));
    const gone = Math.max(0, this.next * column - n / 2 - this.first);
    this.signal = joined.slice(gone);
    this.first += gone;
    return Uint8Array.from(columns);
  }

  at(signal, from) {
    const [re, im] = [new Float64Array(this.n_fft), new Float64Array(this.n_fft)];
    for (let i = 0; i < re.length; i++) re[i] = (signal[from + i] ?? 0) * this.hann[i];
    transform(re, im);
    return this.filters.map(({ from, weights }) => {
      const energy = weights.reduce((sum, weight, i) => sum + weight * (re[from + i] ** 2 + im[from + i] ** 2), 1e-18);
      return Math.round(255 * Math.min(1, Math.max(0, (10 * Math.log10(energy) - this.loudest + this.range) / this.range)));
    });
  }
}
