// Random numbers by position: `play/sampling.py`'s `uniforms`, bit for bit.

const MASK = (1n << 64n) - 1n;
const [MULTIPLY_0, MULTIPLY_1] = [0xd2e7470ee14c6c93n, 0xca5a826395121157n];
const [STEP_0, STEP_1] = [0x9e3779b97f4a7c15n, 0xbb67ae8584caa73bn];

/** Philox-4x64-10 (Salmon et al. 2011): four 64-bit words of a counter, under a key of 128 bits. */
function philox([a, b, c, d], key) {
  for (let round = 0n; round < 10n; round++) {
    const [low, high] = [(key + round * STEP_0) & MASK, ((key >> 64n) + round * STEP_1) & MASK];
    const [first, second] = [MULTIPLY_0 * a, MULTIPLY_1 * c];
    [a, b, c, d] = [(second >> 64n) ^ b ^ low, second & MASK, (first >> 64n) ^ d ^ high, first & MASK];
  }
  return [a, b, c, d];
}

/** The numbers of steps start … start + count − 1: Float32Array in [0, 1), multiples of 2^-24. seed: BigInt. */
export function uniforms(seed, stream, level, start, count, book = 0) {
  const [first, stop] = [Math.floor(start / 8), Math.ceil((start + count) / 8)]; // a counter gives eight numbers
  const words = new BigUint64Array(4 * (stop - first));
  // NumPy increments the counter before it draws.
  for (let at = first; at < stop; at++) words.set(philox([at + 1, stream, level, book].map(BigInt), seed), 4 * (at - first));
  const halves = new Uint32Array(words.buffer).subarray(start - 8 * first, start - 8 * first + count);
  return Float32Array.from(halves, (half) => (half >>> 8) * 2 ** -24);
}
