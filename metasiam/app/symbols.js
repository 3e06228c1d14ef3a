// Invented symbols as they are kept: in the browser's storage, and in files. The server checks every list before it is
// kept, so that whatever is kept can be read again.

import { ask } from "/asking.js";
import { isLarge, smaller } from "/pictures.js";

const KEPT = "metasiam-symbols";
const ASIDE = `${KEPT}-aside-`;
const MOST_BYTES = 64 << 20; // of a file that is opened; its pictures are made smaller before the server counts

// What is stored but could not be read. It is moved aside before another list takes its place.
let unread = null;

export const asText = (symbols) => JSON.stringify({ format: KEPT, schema: 1, symbols });

// A name as the server will have it (plain_name there): spaces of any kind are spaces, what cannot be seen is not there.
const UNSEEN = /(?![\u200c\u200d\u{e0020}-\u{e007f}])\p{Cf}/gu;
export const plainName = (text) => text.normalize("NFC").replace(UNSEEN, "").replace(/\s+/g, " ").trim();

// The list as the server reads it. It throws what the server says where that refuses it.
export async function checked(symbols) {
  return (await ask("/api/symbols", { text: asText(symbols) })).symbols;
}

// Read a saved file: its symbols, and what was left out of them in words.
export async function readFile(file, limits) {
  if (file.size > MOST_BYTES) throw new Error(`${file.name} is larger than ${MOST_BYTES >> 20} MiB. That is no symbol file.`);
  const text = await file.text();
  let value = null;
  try {
    value = JSON.parse(text);
  } catch {
    value = null;
  }
  if (value?.format !== KEPT || value.schema !== 1 || !Array.isArray(value.symbols)) {
    const start = value === null ? "" : JSON.stringify({ format: value.format, schema: value.schema });
    return { symbols: (await ask("/api/symbols", { text: start })).symbols, left: "" }; // it says what is wrong
  }
  return await brought(value.symbols, limits);
}

// Read what the browser keeps. What cannot be read, and what is only read in part, is never overwritten.
export async function readKept(limits) {
  const text = localStorage.getItem(KEPT);
  unread = text;
  if (!text) return { symbols: [], left: "" };
  let value;
  try {
    value = JSON.parse(text);
  } catch {
    throw new Error("The symbols that this browser keeps cannot be read.");
  }
  const result = await brought(value, limits);
  if (!result.left) unread = null;
  return result;
}

export function keep(symbols) {
  if (unread) localStorage.setItem(ASIDE + Date.now(), unread);
  unread = null;
  localStorage.setItem(KEPT, JSON.stringify(symbols));
}

export const isKept = (key) => key === KEPT || key === null;

const asideKeys = () => Object.keys(localStorage).filter((key) => key.startsWith(ASIDE)).sort();

// The lists that could not be read, as text.
export function aside() {
  return [...asideKeys().map((key) => localStorage.getItem(key)), ...(unread ? [unread] : [])];
}

export function forgetAside() {
  for (const key of asideKeys()) localStorage.removeItem(key);
  if (unread) localStorage.removeItem(KEPT);
  unread = null;
}

// Bring a list to what the server takes: large pictures smaller, plain names, all examples of a name together, and no
// more of either than it takes.
async function brought(value, limits) {
  if (!Array.isArray(value) || !value.every((symbol) => typeof symbol?.name === "string" && Array.isArray(symbol.drawings))) {
    return { symbols: await checked(value), left: "" }; // it says what is wrong
  }
  const together = new Map();
  for (const { name, drawings } of value) {
    const plain = plainName(name) || name;
    together.set(plain, [...(together.get(plain) ?? []), ...drawings]);
  }
  const symbols = [];
  let examples = 0;
  for (const [name, all] of [...together].slice(0, limits.symbols)) {
    const drawings = all.slice(0, limits.drawings);
    examples += all.length - drawings.length;
    symbols.push({ name, drawings: await Promise.all(drawings.map((drawing) => small(drawing, limits.side))) });
  }
  const others = together.size - symbols.length;
  const left = [others && `${others} of ${together.size} symbols`, examples && `${examples} examples`].filter(Boolean);
  return { symbols: await checked(symbols), left: left.join(" and ") };
}

async function small(drawing, side) {
  if (typeof drawing?.picture !== "string" || !drawing.picture.startsWith("data:") || !isLarge(drawing.picture)) return drawing;
  return { picture: await smaller(drawing.picture, side).catch(() => drawing.picture) };
}
