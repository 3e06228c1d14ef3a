import { ask, complain, find, live } from "/asking.js";
import { Pad, paintDrawing, setPen, setPictureSide } from "/pad.js";
import { aside, asText, checked, forgetAside, isKept, keep, plainName, readFile, readKept } from "/symbols.js";

const THUMB = 42; // CSS pixels within the border, as in page.css
const percent = (share) => `${Math.min(99, Math.max(1, Math.round(100 * share)))} %`;

async function lookAt(pad) {
  if (pad.empty) return pad.look(null);
  const { seen } = await ask("/api/look", { drawing: pad.drawing });
  return pad.look(seen);
}

// ---- same or different ----

let about = { threshold: 0, distance: "cosine", limits: { symbols: 40, drawings: 20, side: 512 } };
const pads = {};

function onScale(similarity) {
  // The threshold stands in the middle; each half has its own stretch, so that both ends are reached.
  const [low, high] = about.distance === "cosine" ? [Math.min(-0.2, about.threshold - 0.5), 1] : [6 * about.threshold, 0];
  const share = similarity < about.threshold
    ? 0.5 * ((similarity - low) / (about.threshold - low))
    : 0.5 + 0.5 * ((similarity - about.threshold) / (high - about.threshold));
  return `${100 * Math.min(1, Math.max(0, share))}%`;
}

function showVerdict(answer) {
  const verdict = find("verdict");
  const needle = document.querySelector(".scale-needle");
  verdict.dataset.verdict = answer ? (answer.same ? "same" : "different") : "";
  needle.hidden = !answer;
  find("chance").innerHTML = "&nbsp;";
  if (!answer) {
    verdict.textContent = pads.first.empty && pads.second.empty ? "Draw on both pads" : "Draw on the other pad too";
    find("scale").setAttribute("aria-label", "No answer yet");
    return;
  }
  verdict.textContent = answer.same ? "Same" : "Different";
  find("chance").textContent = `${percent(answer.same ? answer.probability : 1 - answer.probability)} sure`;
  needle.style.left = onScale(answer.similarity);
  needle.firstElementChild.textContent = answer.similarity.toFixed(2);
  const words = `Similarity ${answer.similarity.toFixed(2)}, threshold ${answer.threshold.toFixed(2)}`;
  find("scale").setAttribute("aria-label", words);
}

const comparePads = live(async () => {
  const { first, second } = pads;
  if (first.empty || second.empty) {
    showVerdict(null);
    await Promise.all([lookAt(first), lookAt(second)]);
    return;
  }
  try {
    const answer = await ask("/api/compare", { first: first.drawing, second: second.drawing });
    first.look(answer.seen[0]);
    second.look(answer.seen[1]);
    showVerdict(first.empty || second.empty ? null : answer);
  } catch (error) {
    showVerdict(null);
    throw error;
  }
});

// ---- one shot ----

let symbols = [];
let before = null; // the list that Undo brings back

// Take another list of symbols. What was removed can be brought back until the next change.
function take(next, removed = "") {
  before = removed ? symbols : null;
  find("removed").hidden = !removed;
  find("removed").firstElementChild.textContent = removed;
  symbols = next;
  try {
    keep(symbols);
  } catch {
    complain("The browser's storage is full: save the symbols as a file to keep them.");
  }
  find("adapted").checked = false;
  find("adapted").disabled = true;
  showSymbols();
  recognise();
}

function showSymbols() {
  find("names").replaceChildren(...symbols.map(({ name }) => Object.assign(document.createElement("option"), { value: name })));
  find("symbols").replaceChildren(...symbols.map(symbolRow));
  for (const id of ["save", "forget"]) find(id).disabled = symbols.length === 0;
  find("adapt").disabled = symbols.length < 2;
  find("aside").hidden = aside().length === 0;
}

function symbolRow(symbol) {
  const row = document.createElement("li");
  const name = Object.assign(document.createElement("span"), { className: "name", textContent: symbol.name });
  row.append(name, ...symbol.drawings.map((drawing, place) => thumbnail(symbol, drawing, place)));
  return row;
}

function thumbnail(symbol, drawing, place) {
  const button = Object.assign(document.createElement("button"), { className: "thumb", type: "button", title: "Remove this example" });
  button.setAttribute("aria-label", `Remove example ${place + 1} of ${symbol.name}`);
  if (drawing.picture) {
    button.append(Object.assign(new Image(), { src: drawing.picture, alt: "" }));
  } else {
    button.append(document.createElement("canvas"));
    paintDrawing(button.firstElementChild, drawing, 26, THUMB);
  }
  button.addEventListener("click", () => {
    const without = { ...symbol, drawings: symbol.drawings.filter((_, other) => other !== place) };
    const next = symbols.map((other) => (other === symbol ? without : other)).filter(({ drawings }) => drawings.length > 0);
    take(next, `Example ${place + 1} of ${symbol.name} removed.`);
  });
  return button;
}

function showNamed(answer) {
  const named = find("named");
  named.dataset.verdict = answer ? (answer.name ? "known" : "unknown") : "";
  named.textContent = answer ? answer.name || "None of these" : symbols.length ? "Draw a question" : "Teach a symbol first";
  find("named-chance").textContent = answer ? `${percent(answer.probability)} sure` : "\u00a0";
  find("ranking").replaceChildren(...(answer?.guesses ?? []).map((guess) => {
    const row = document.createElement("li");
    const bar = Object.assign(document.createElement("span"), { className: "bar" });
    bar.append(document.createElement("i"));
    bar.firstElementChild.style.width = `${100 * guess.probability}%`;
    row.append(
      Object.assign(document.createElement("span"), { className: "name", textContent: guess.name }),
      bar,
      Object.assign(document.createElement("span"), { className: "value", textContent: percent(guess.probability) }),
    );
    row.title = `similarity ${guess.score.toFixed(2)}, threshold ${guess.threshold.toFixed(2)}`;
    return row;
  }));
}

const recognise = live(async () => {
  const { query } = pads;
  if (query.empty || symbols.length === 0) {
    showNamed(null);
    await lookAt(query);
    return;
  }
  try {
    const answer = await ask("/api/recognise", { symbols, query: query.drawing, adapted: find("adapted").checked });
    query.look(answer.seen);
    showNamed(query.empty ? null : answer);
  } catch (error) {
    showNamed(null);
    throw error;
  }
});

const lookAtExample = live(() => lookAt(pads.example));

function withExample(name, drawing) {
  if (!symbols.some((symbol) => symbol.name === name)) return [...symbols, { name, drawings: [drawing] }];
  return symbols.map((symbol) => (symbol.name === name ? { ...symbol, drawings: [...symbol.drawings, drawing] } : symbol));
}

async function add(event) {
  event.preventDefault();
  const name = plainName(find("name").value);
  const button = find("add").querySelector("button");
  if (button.disabled) return;
  if (pads.example.empty) return complain("The example pad is empty. Draw the symbol on it first.");
  if (!name) {
    complain("The symbol has no name yet. Type one.");
    return find("name").focus();
  }
  button.disabled = true; // until the server has looked at it
  try {
    let from, next;
    do {
      from = symbols; // which may change while the server looks at it
      next = await checked(withExample(name, pads.example.drawing));
    } while (from !== symbols);
    complain("");
    pads.example.clear();
    find("name").value = "";
    take(next);
  } catch (error) {
    complain(error.message);
  }
  button.disabled = false;
}

function download(name, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

async function open() {
  const file = find("file").files[0];
  find("file").value = "";
  if (!file) return;
  try {
    const read = await readFile(file, about.limits);
    complain(read.left && `${read.left} of ${file.name} are more than can be kept here, and were left out.`);
    take(read.symbols, symbols.length ? `${counted(symbols)} replaced.` : "");
  } catch (error) {
    complain(error.message);
  }
}

const counted = ({ length }) => (length === 1 ? "1 symbol" : `${length} symbols`);

async function adapt() {
  find("adapt").disabled = true;
  find("gain").textContent = "Adapting…";
  try {
    const { steps, before, after } = await ask("/api/adapt", { symbols });
    const told = ({ right, of, lead }) => `${right} of ${of} right, ahead by ${lead.toFixed(2)}`;
    find("gain").textContent = `${steps} steps. Drawings held out: before ${told(before)}; after ${told(after)}.`;
    find("adapted").disabled = false;
    find("adapted").checked = true;
    complain("");
    recognise();
  } catch (error) {
    find("gain").textContent = "A few training steps on your drawings, measured on drawings held out.";
    complain(error.message);
  }
  find("gain").scrollIntoView({ block: "nearest" });
  find("adapt").disabled = symbols.length < 2;
}

// ---- the page ----

function choose(tab) {
  for (const other of document.querySelectorAll("[role=tab]")) {
    const chosen = other === tab;
    other.setAttribute("aria-selected", chosen);
    other.tabIndex = chosen ? 0 : -1;
    find(other.getAttribute("aria-controls")).hidden = !chosen;
  }
  complain("");
  history.replaceState(null, "", tab.id === "tab-shot" ? "#one-shot" : "#");
}

function start() {
  const acts = { first: comparePads, second: comparePads, example: lookAtExample, query: recognise };
  for (const card of document.querySelectorAll("[data-pad]")) {
    const changed = () => {
      complain("");
      acts[card.dataset.pad]();
    };
    pads[card.dataset.pad] = new Pad(card, changed, complain);
  }
  const tabs = [...document.querySelectorAll("[role=tab]")];
  for (const tab of tabs) {
    tab.addEventListener("click", () => choose(tab));
    tab.addEventListener("keydown", (event) => {
      if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
      const other = tabs[(tabs.indexOf(tab) + 1) % tabs.length];
      choose(other);
      other.focus();
    });
  }
  if (location.hash === "#one-shot") choose(find("tab-shot"));
  find("swap").addEventListener("click", () => {
    const left = pads.first.drawing;
    pads.first.drawing = pads.second.drawing;
    pads.second.drawing = left;
  });
  find("pen").addEventListener("input", (event) => setPen(Number(event.target.value)));
  find("add").addEventListener("submit", add);
  find("save").addEventListener("click", () => download("symbols.json", asText(symbols)));
  find("open").addEventListener("click", () => find("file").click());
  find("file").addEventListener("change", open);
  find("forget").addEventListener("click", () => take([], `${counted(symbols)} forgotten.`));
  find("bring-back").addEventListener("click", () => take(before));
  find("aside-save").addEventListener("click", saveAside);
  find("aside-forget").addEventListener("click", () => {
    if (!confirm("Forget what could not be read, for good?")) return;
    forgetAside();
    showSymbols();
  });
  find("adapt").addEventListener("click", adapt);
  find("adapted").addEventListener("change", recognise);
  addEventListener("storage", (event) => isKept(event.key) && recall());
  remember();
}

// What could not be read is saved as it is: a later version may read it.
function saveAside() {
  for (const text of aside()) {
    let list = null;
    try {
      list = JSON.parse(text);
    } catch {
      list = null;
    }
    download("symbols-aside.json", Array.isArray(list) ? asText(list) : text);
  }
}

async function remember() {
  try {
    about = await (await fetch("/api/about")).json();
    setPictureSide(about.limits.side);
    const calibrated = about.learned_on ? `; threshold from ${about.learned_on}` : "; threshold not calibrated";
    find("about").textContent = `${about.arch} trained on ${about.trained_on || "unknown images"}, ${about.image_size}×${about.image_size} pixels${calibrated}`;
    document.querySelector(".scale-threshold span").textContent = `threshold ${about.threshold.toFixed(2)}`;
  } catch (error) {
    complain(error.message);
  }
  await recall();
  document.body.dataset.ready = "yes";
}

// Show what the browser keeps, at the start and when another tab has changed it.
async function recall() {
  try {
    const read = await readKept(about.limits);
    symbols = read.symbols;
    if (read.left) complain(`${read.left} are more than can be used here, and are not shown. They are kept: see below.`);
  } catch (error) {
    complain(`${error.message} What this browser keeps is not overwritten.`);
  }
  showSymbols();
  recognise();
}

start();
