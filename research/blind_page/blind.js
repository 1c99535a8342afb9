// A blind test: pairs of sounds of one row, in random order and without their names.

import { alertIn, button, byId, element, film, keep, readJson, recall } from "./dom.js";
import { clock } from "./sound.js";
import { Together } from "./together.js";
import { merge, tally } from "./votes.js";

const KEY = "vqwave.votes";
window.vqwave = {};
const { rate, rows } = await readJson("sounds.json");
const percent = (share) => `${Math.round(100 * share)} %`;
const shuffled = (list) => list.map((one) => [Math.random(), one]).sort(([a], [b]) => a - b).map(([, one]) => one);

class BlindPair extends Together {
  async next() {
    this.rewind();
    const [row] = shuffled(Object.keys(rows));
    const kinds = shuffled(Object.keys(rows[row])).slice(0, 2);
    const buffers = await Promise.all(kinds.map(async (kind) => clock(rate).decodeAudioData(await (await fetch(rows[row][kind])).arrayBuffer())));
    this.sounds = buffers.map((buffer) => ({ buffer }));
    this.picks = ["A", "B"].map((name, i) => button(`Hear ${name}`, () => this.choose(i)));
    const votes = ["A", "B"].map((name, i) => button(`I prefer ${name}`, () => this.vote({ row, kinds, best: kinds[i] }), { class: "main" }));
    byId("pair").replaceChildren(this.bar("Which sound is heard", "Play", ...this.picks), element("div", { class: "buttons" }, ...votes, button("Another pair", () => this.next())));
    this.choose(0);
  }

  vote(vote) {
    keep(KEY, merge(recall(KEY, []), [{ id: crypto.randomUUID(), ...vote }]));
    byId("last").textContent = `${vote.row}: A was ${vote.kinds[0]}, B was ${vote.kinds[1]}.`;
    show();
    this.next();
  }

  draw() {
    if (!this.sounds.length || (!this.dirty && !this.nodes)) return;
    this.dirty = false;
    this.picks.forEach((pick, i) => pick.setAttribute("aria-pressed", String(i === this.chosen)));
    this.showTime();
  }
}

function show() {
  const votes = recall(KEY, []);
  const lines = tally(votes).map(({ first, second, wins, count, low, high }) =>
    element("li", {}, `${first} rather than ${second}: ${wins} of ${count}, ${percent(wins / count)} (95 %: ${percent(low)} to ${percent(high)})`));
  byId("tally").replaceChildren(votes.length ? element("ul", {}, ...lines) : element("p", {}, "No votes yet."));
}

function save() {
  const url = URL.createObjectURL(new Blob([JSON.stringify(recall(KEY, []), null, 1)], { type: "application/json" }));
  element("a", { href: url, download: "votes.json" }).click();
  URL.revokeObjectURL(url);
}

async function add(files) {
  try {
    for (const file of files) keep(KEY, merge(recall(KEY, []), JSON.parse(await file.text())));
    alertIn(byId("alert"), "");
  } catch (error) {
    alertIn(byId("alert"), error.message);
  }
  show();
}

const file = element("input", { type: "file", accept: ".json", multiple: true, "aria-label": "Files of votes", onchange: () => add(file.files) });
byId("files").append(button("Save the votes", save), element("label", {}, "Add votes: ", file));
const pair = new BlindPair();
film(() => pair.draw());
show();
pair.next();
