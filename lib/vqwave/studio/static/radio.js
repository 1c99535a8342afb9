// The radio's page: its stations, each with a player and its addresses.

import { alertIn, announce, button, byId, copy, element } from "./dom.js";
import { answer, inWords } from "./wire.js";

const KINDS = { ogg: ["Ogg", "audio/ogg"], mp3: ["MP3", "audio/mpeg"] };
const REFRESH = 1000; // milliseconds

const stations = () => answer(fetch("stations"));
const audience = ({ listeners }) => (listeners === 1 ? "1 listener" : `${listeners} listeners`);

function address(name, stream) {
  const [label] = KINDS[stream.split(".").pop()];
  const input = element("input", { type: "text", readonly: true, value: new URL(stream, location.href).href, "aria-label": `Address of ${name} as ${label}`, onfocus: () => input.select() });
  return element("div", { class: "address" }, element("span", {}, label), input, button("Copy", (event) => copy(input.value, event.target), { class: "small", "aria-label": `Copy the ${label} address of ${name}` }));
}

function article(station) {
  const { number, name, about, streams } = station;
  const sources = streams.map((stream) => element("source", { src: stream, type: KINDS[stream.split(".").pop()][1] }));
  const state = element("span", { role: "status" });
  const say = (words) => () => (state.textContent = words);
  const begin = ({ target }) => {
    pauseOthers(target);
    say(" · starting …")();
    announce(name, "VQWave radio");
  };
  return element("article", { class: "station" },
    element("h2", {}, name),
    element("p", { class: "faint" }, `${about} · `, element("span", { id: `listeners-${number}` }, audience(station)), state),
    element("audio", { controls: true, preload: "none", "aria-label": name, onplay: begin, onwaiting: say(" · waiting for sound …"), onplaying: say(" · on air"), onpause: say("") }, ...sources),
    ...streams.map((stream) => address(name, stream)));
}

function pauseOthers(playing) { for (const audio of document.querySelectorAll("audio")) if (audio !== playing) audio.pause(); }

async function refresh() {
  if (!document.hidden) for (const station of await stations().catch(() => [])) byId(`listeners-${station.number}`).textContent = audience(station); // the players say that the radio is gone
}

try {
  byId("stations").append(...(await stations()).map(article));
  setInterval(refresh, REFRESH);
} catch (error) { alertIn(byId("alert"), inWords(error)); }
