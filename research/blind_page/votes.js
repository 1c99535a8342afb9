// Votes of a blind test. A vote is {id, row, kinds: the two that were heard, best: the preferred kind}.

const Z = 1.96; // of 95 %

/** The interval of Wilson (1927) for a share of wins, as [low, high]. */
export function interval(wins, count) {
  const [share, square] = [wins / count, (Z * Z) / count];
  const half = Z * Math.sqrt((share * (1 - share)) / count + square / (4 * count));
  return [share + square / 2 - half, share + square / 2 + half].map((x) => Math.min(1, Math.max(0, x / (1 + square))));
}

/** Both lists of votes; a vote that is in both counts once. Throws where one is no list of votes. */
export function merge(votes, others) {
  const valid = (vote) => typeof vote?.id === "string" && vote.kinds?.length === 2 && vote.kinds.includes(vote.best);
  if (!Array.isArray(others) || !others.every(valid)) throw new Error("This file holds no votes.");
  return [...new Map([...votes, ...others].map((vote) => [vote.id, vote])).values()];
}

/** A row for each pair of kinds: {first, second, wins of the first, count, low, high}. */
export function tally(votes) {
  const rows = new Map();
  for (const { kinds, best } of votes) {
    const [first, second] = [...kinds].sort();
    const row = rows.get(`${first} ${second}`) ?? { first, second, wins: 0, count: 0 };
    rows.set(`${first} ${second}`, { ...row, wins: row.wins + (best === first), count: row.count + 1 });
  }
  return [...rows.values()].map((row) => {
    const [low, high] = interval(row.wins, row.count);
    return { ...row, low, high };
  });
}
