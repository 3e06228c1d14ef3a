// A drawing pad: strokes by mouse, pen or finger, kept in thousandths of the pad's side, so any screen shows the same.

import { pictureOf } from "/pictures.js";

const SIDE = 1000;
let penWidth = 11;
let pictureSide = 512;

export function setPen(width) {
  penWidth = width;
  for (const pad of Pad.all) pad.paint();
}

export function setPictureSide(pixels) {
  pictureSide = pixels;
}

export class Pad {
  static all = [];

  constructor(card, changed, failed) {
    this.label = card.dataset.label;
    this.changed = changed;
    this.failed = failed;
    this.strokes = [];
    this.picture = null;
    card.innerHTML = `<div class="pad"><canvas tabindex="0" role="img"></canvas>
      <span class="ghost">draw here</span><img class="seen" alt="What the network sees" hidden></div>
      <div class="tools"><button type="button" class="clear">Clear</button><button type="button" class="undo">Undo</button>
      <button type="button" class="choose">Picture…</button><input type="file" accept="image/*" hidden></div>`;
    this.canvas = card.querySelector("canvas");
    this.canvas.setAttribute("aria-label", `${this.label}: draw with mouse, pen or finger. Delete clears, Ctrl+Z undoes.`);
    this.ghost = card.querySelector(".ghost");
    this.seen = card.querySelector(".seen");
    this.file = card.querySelector("input");
    for (const [name, act] of [["clear", () => this.clear()], ["undo", () => this.undo()], ["choose", () => this.file.click()]]) {
      const button = card.querySelector(`.${name}`);
      button.setAttribute("aria-label", `${button.textContent.replace("…", "")}: ${this.label.toLowerCase()}`);
      button.addEventListener("click", act);
    }
    this.file.setAttribute("aria-label", `Picture for the ${this.label.toLowerCase()}`);
    this.file.addEventListener("change", () => this.open(this.file.files[0]));
    this.canvas.addEventListener("pointerdown", (event) => this.begin(event));
    this.canvas.addEventListener("pointermove", (event) => this.go(event));
    for (const end of ["pointerup", "pointercancel"]) this.canvas.addEventListener(end, (event) => this.end(event));
    this.canvas.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.paint()).observe(this.canvas);
    Pad.all.push(this);
  }

  get empty() {
    return !this.picture && this.strokes.length === 0;
  }

  // What the server is sent; null for an empty pad.
  get drawing() {
    if (this.picture) return { picture: this.picture };
    return this.empty ? null : { strokes: this.strokes };
  }

  // A stroke that is under way ends: what its pointer still does is no part of the new drawing.
  set drawing(value) {
    this.active = undefined;
    this.strokes = value?.strokes ? value.strokes.map((stroke) => stroke.map((point) => [...point])) : [];
    this.picture = value?.picture ?? null;
    this.image = null;
    this.look(null);
    this.paint();
    this.changed();
  }

  place(event) {
    const box = this.canvas.getBoundingClientRect();
    const at = (position, from, length) => Math.round(((position - from) / length) * SIDE * 10) / 10;
    return [at(event.clientX, box.left, box.width), at(event.clientY, box.top, box.height)];
  }

  begin(event) {
    if (event.button !== 0 || this.active !== undefined) return;
    event.preventDefault();
    this.canvas.focus({ preventScroll: true });
    this.canvas.setPointerCapture(event.pointerId);
    this.active = event.pointerId;
    if (this.picture) this.picture = this.image = null;
    this.strokes.push([this.place(event)]);
    this.paint();
  }

  go(event) {
    if (event.pointerId !== this.active) return;
    const stroke = this.strokes.at(-1);
    for (const part of event.getCoalescedEvents?.().length ? event.getCoalescedEvents() : [event]) {
      const [x, y] = this.place(part);
      const [lastX, lastY] = stroke.at(-1);
      if (Math.hypot(x - lastX, y - lastY) >= 4) stroke.push([x, y]);
    }
    this.paint();
    this.changed();
  }

  end(event) {
    if (event.pointerId !== this.active) return;
    this.active = undefined;
    this.changed();
  }

  key(event) {
    if (event.key === "Delete" || event.key === "Backspace") this.clear();
    else if (event.key === "z" && (event.ctrlKey || event.metaKey)) this.undo();
    else return;
    event.preventDefault();
  }

  clear() {
    this.drawing = null;
  }

  undo() {
    this.drawing = this.picture ? null : { strokes: this.strokes.slice(0, -1) };
  }

  async open(file) {
    if (!file) return;
    try {
      this.drawing = { picture: await pictureOf(file, pictureSide) };
    } catch (error) {
      this.failed(error.message);
    }
    this.file.value = "";
  }

  // Show what the network sees.
  look(url) {
    this.seen.hidden = !url;
    if (url) this.seen.src = url;
  }

  paint() {
    this.ghost.hidden = !this.empty;
    const { width: side } = this.canvas.getBoundingClientRect();
    if (!side) return; // not laid out: it is painted when it is
    paintDrawing(this.canvas, { strokes: this.strokes }, penWidth, side);
    if (!this.picture) return;
    if (!this.image) {
      this.image = new Image();
      this.image.onload = () => this.paint();
      this.image.src = this.picture;
    } else if (this.image.complete && this.image.naturalWidth) {
      const { width, height } = this.canvas;
      const scale = Math.min(width / this.image.naturalWidth, height / this.image.naturalHeight);
      const [w, h] = [this.image.naturalWidth * scale, this.image.naturalHeight * scale];
      this.canvas.getContext("2d").drawImage(this.image, (width - w) / 2, (height - h) / 2, w, h);
    }
  }
}

// Draw strokes on any canvas that is shown `length` CSS pixels wide and high.
export function paintDrawing(canvas, drawing, pen, length) {
  const side = Math.max(1, Math.round(length * (window.devicePixelRatio || 1)));
  if (canvas.width !== side || canvas.height !== side) canvas.width = canvas.height = side;
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, side, side);
  context.strokeStyle = context.fillStyle = getComputedStyle(document.body).color;
  context.lineCap = context.lineJoin = "round";
  const scale = side / SIDE;
  context.lineWidth = pen * 2 * scale;
  for (const stroke of drawing.strokes ?? []) {
    const points = stroke.map(([x, y]) => [x * scale, y * scale]);
    context.beginPath();
    context.moveTo(...points[0]);
    if (points.length === 1) context.lineTo(points[0][0] + 0.01, points[0][1]);
    for (const point of points.slice(1)) context.lineTo(...point);
    context.stroke();
  }
}
