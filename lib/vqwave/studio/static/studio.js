// The page: tabs, theme and parts.

import { Codecs } from "./codecs.js";
import { alertIn, byId, element } from "./dom.js";
import { Form } from "./form.js";
import { Player } from "./player.js";
import { Presets } from "./presets.js";
import { wake } from "./sound.js";
import { Takes } from "./takes.js";
import { answer, inWords } from "./wire.js";

function show() {
  for (const [name, shown] of [["music", location.hash !== "#codecs"], ["codecs", location.hash === "#codecs"]]) {
    byId(name).hidden = !shown;
    byId(`tab-${name}`).setAttribute("aria-current", shown ? "page" : "false");
  }
}

show();
addEventListener("hashchange", show);

function takeDrops(codecs, form) {
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    const [file] = event.dataTransfer.files;
    if (!file) return;
    const codecsShown = byId("music").hidden || !form;
    if (!codecsShown) form.expectRecording(file.name.endsWith(".mid") ? "perform" : "continue");
    (codecsShown ? codecs : form).box.upload(file, file.name);
  });
}

/** While a training runs: a finished piece begins again when there are newer weights. */
function followTraining(about, player) {
  let newestKnown = about.newest;
  setInterval(async () => {
    if (!player.sound?.over || player.busy) return;
    const { newest = newestKnown } = await answer(fetch("studio/about")).catch(() => ({})); // the next request reports that the studio is gone
    if (newest !== newestKnown) player.make();
    newestKnown = newest;
  }, 5000);
}

function makeMusic(about) {
  const make = () => {
    document.querySelector(".stage").scrollIntoView({ behavior: "smooth" });
    player.make();
  };
  const form = new Form(about, make, () => takes.four());
  const takes = new Takes(form);
  const player = new Player(form, takes);
  new Presets(form, player);
  if (about.newest !== null) followTraining(about, player);
  document.addEventListener("theme", () => {
    takes.show();
    form.box.draw();
  });
  return { player, form, takes };
}

try {
  const about = await answer(fetch("studio/about"));
  wake(about.rate);
  const codecs = new Codecs(about);
  document.addEventListener("theme", () => {
    codecs.repaint();
    codecs.box.draw();
  });
  if (about.folders.length) {
    const { form, ...others } = makeMusic(about);
    window.vqwave = { codecs, form, ...others };
    takeDrops(codecs, form);
    const takeOver = () => (codecs.weights.value = form.weights.value);
    form.weights.addEventListener("change", takeOver);
    const refused = await form.follow(location.search);
    alertIn(byId("alert"), refused);
    if (location.search && !refused) byId("hint").textContent = "This link holds a piece: press Play to hear it.";
    takeOver();
  } else {
    window.vqwave = { codecs };
    takeDrops(codecs);
    byId("music").replaceChildren(byId("alert"), element("p", { class: "lead" }, "There are no generators here; the codecs can be heard on the other page."));
  }
} catch (error) { alertIn(byId("alert"), inWords(error)); }
