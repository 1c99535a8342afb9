// The page of a site that `vqwave export-web` wrote: the studio's player, with the model in this browser.

import { alertIn, byId, element, readJson } from "./dom.js";
import { Player } from "./player.js";
import { wake } from "./sound.js";
import { answer, ask } from "./wire.js";

const link = { seed: "", label: "", ...Object.fromEntries(new URLSearchParams(location.hash.slice(1))) };
addEventListener("hashchange", () => location.reload()); // another link

/** What the next piece is made of: a seed, a label, and the changes that a link holds. */
class Form {
  constructor(about) {
    Object.assign(this, { about, rate: about.rate });
    const labels = new Set([...about.labels, ...(link.label && [link.label])]); // the worker refuses an unknown label
    byId("label").append(...[...labels].map((name) => element("option", { value: name }, name)));
    byId("label").parentElement.hidden = byId("and-label").hidden = !labels.size;
    byId("form").addEventListener("submit", (event) => (event.preventDefault(), window.vqwave.player.make()));
    [byId("seed").value, byId("label").value] = [link.seed, link.label];
    if (link.seed) byId("hint").textContent = "This link holds a piece: press Play to hear it.";
  }

  async whole(more = {}) {
    await this.loaded;
    const seed = byId("seed").value.trim();
    return { seconds: "endless", seed, label: byId("label").value, changes: seed === link.seed ? link.changes : "", ...more };
  }
}

navigator.serviceWorker?.register("sw.js").catch(() => {});
try {
  const about = await readJson("site.json");
  wake(about.rate);
  const form = new Form(about);
  const player = new Player(form, { add() {}, expect() {} });
  window.vqwave = { about, form, player };
  form.loaded = answer(ask("studio/models", about), ({ progress, share }) => player.say(`${progress} …`, share));
  await answer(ask("studio/settings", await form.whole()));
  if (player.state === "empty" && !player.busy) player.say("Ready. Press Play.");
  window.vqwave.ready = true;
} catch (error) {
  window.vqwave?.player.say("Nothing is playing yet.");
  alertIn(byId("alert"), error.message);
}
