// Random numbers by position: `play/sampling.py`'s `uniforms`, bit for bit.

const MASK = (1n << 64n) - 1n;
const [MULTIPLY_0, MULTIPLY_1] = [0xd2e7470ee14c6c93n, 0xca5a826395121157n];
const [STEP_0, STEP_1] = [0x9e3779b97f4a7c15n, 0xbb67ae8584caa73bn];

/** Philox-4x64-10 (Salmon et al. 2011): four 64-bit words of a counter, under a key of 128 bits. */
function philox([a, b, c, d], key) {
  let [low, high] = [key & MASK, key >> 64n];
  for (let round = 0; round < 10; round++) {
    const [first, second] = [MULTIPLY_0 * a, MULTIPLY_1 * c];
    [a, b, c, d] = [(second >> 64n) ^ b ^ low, second & MASK, (first >> 64n) ^ d ^ high, first & MASK];
    low = (low + STEP_0) & MASK;
    high = (high + STEP_1) & MASK;
  }
  return [a, b, c, d];
}

/** The numbers of steps start … start + count − 1: Float32Array in [0, 1), multiples of 2^-24. seed: BigInt. */
export function uniforms(seed, stream, level, start, count, book = 0) {
  const numbers = new Float32Array(count);
  const at = (word, half) => Number((word >> (half ? 32n : 0n)) & 0xffffffffn) >>> 8;
  for (let i = 0, step = start, words, counter = -1; i < count; i++, step++) {
    const next = Math.floor(step / 8);
    // NumPy increments the counter before it draws.
    if (next !== counter) words = philox([BigInt(next) + 1n, BigInt(stream), BigInt(level), BigInt(book)], seed);
    counter = next;
    numbers[i] = at(words[(step % 8) >> 1], step & 1) * 2 ** -24;
  }
  return numbers;
}
