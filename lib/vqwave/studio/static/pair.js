// Two takes, A and B: both play, one is heard.

import { alertIn, button, byId, element, film } from "./dom.js";
import { clock } from "./sound.js";
import { Together } from "./together.js";
import { inWords } from "./wire.js";

export class Pair extends Together {
  ids = []; // of the chosen takes

  constructor(rate) {
    super();
    this.rate = rate;
    film(() => this.draw());
  }

  /** Choose a take, or choose it no longer; a third takes the place of the first. takes: those of the list. */
  async choice(id, takes) {
    this.rewind();
    this.sounds = [];
    this.ids = this.ids.includes(id) ? this.ids.filter((other) => other !== id) : [...this.ids, id].slice(-2);
    const [first, second] = this.ids.map((each) => takes.find((take) => take.id === each));
    byId("pair").replaceChildren(...(first ? [element("p", { class: "faint", role: "status" }, second ? "Loading both takes …" : `Choose another take to compare with “${first.name || first.title}”.`)] : []));
    if (!second) return;
    const ids = this.ids;
    try {
      const sounds = await Promise.all([first, second].map((take) => this.load(take)));
      if (ids !== this.ids) return;
      for (const sound of sounds) this.put(sound);
      this.picks = sounds.map(({ name }, i) => button(`${"AB"[i]}: ${name}`, () => this.choose(i), {}));
      byId("pair").replaceChildren(this.bar("Which take is heard", "Pause", ...this.picks));
      this.choose(0, 0);
    } catch (error) {
      byId("pair").replaceChildren();
      alertIn(byId("alert"), inWords(error));
    }
  }

  async load(take) {
    const response = await fetch(`studio/takes/${take.id}.wav`);
    if (!response.ok) throw new Error(await response.text());
    return { name: take.name || take.title, buffer: await clock(this.rate).decodeAudioData(await response.arrayBuffer()) };
  }

  draw() {
    if (!this.sounds.length || (!this.dirty && !this.nodes)) return;
    this.dirty = false;
    this.picks.forEach((pick, i) => pick.setAttribute("aria-pressed", String(i === this.chosen)));
    this.showTime();
  }
}
