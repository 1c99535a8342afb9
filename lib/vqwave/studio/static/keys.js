// The keys of the page of music, and the line that lists them.

import { byId, element, inField } from "./dom.js";

const STEP = 5; // seconds of an arrow key
const BUTTONS = { n: "die", s: "stop", j: "jump", h: "hold", c: "onward" };
const KEYS = [
  ["Space", "play or pause"], ["N", "another piece"], ["S", "stop"], ["← →", `${STEP} seconds`],
  ["J", "go somewhere else"], ["H", "hold"], ["C", "continue from here"], ["Ctrl Z", "undo"],
];
const BUSY = { // focused elements that use a key themselves
  Arrow: "input, textarea, select, [role=application], [role=tab]",
  letter: "input[type=text], input[type=number], textarea, select",
};

export function listen(player) {
  byId("keys").append(...KEYS.filter(([key]) => byId(BUTTONS[key.toLowerCase()] ?? "keys")).map(([key, words]) => element("span", {}, element("kbd", {}, key), ` ${words}`)));
  document.addEventListener("keydown", (event) => {
    const { code, key, target } = event;
    const kind = code === "Space" ? "Space" : key.startsWith("Arrow") ? "Arrow" : "letter";
    if ((event.ctrlKey || event.metaKey) && key.toLowerCase() === "z" && !byId("music").hidden && !target.closest?.(BUSY.letter)) {
      event.preventDefault();
      player.history.move(event.shiftKey ? "redo" : "undo");
    }
    if (byId("music").hidden || event.ctrlKey || event.metaKey || event.altKey) return;
    if (kind === "Space" ? inField(event) : target.closest?.(BUSY[kind])) return;
    const step = { ArrowLeft: -STEP, ArrowRight: STEP, ...(target === player.wave && { Home: -Infinity, End: Infinity }) }[key];
    const button = byId(BUTTONS[key.toLowerCase()]);
    if (code === "Space") player.press();
    else if (step) player.move(step);
    else if (button) button.click();
    else return;
    event.preventDefault();
  });
}
