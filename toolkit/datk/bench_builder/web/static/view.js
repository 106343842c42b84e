// A photograph that can be zoomed and moved, with marks that keep their size. Points are [row, column] of the original.

const SVG = "http://www.w3.org/2000/svg";
const RING = 13;

export class View {
  constructor(stage, photo, marks) {
    Object.assign(this, { stage, photo, marks, scale: 1, left: 0, top: 0, points: {}, cross: null, size: null, fitted: true });
    new ResizeObserver(() => (this.fitted ? this.fit() : this.draw())).observe(stage);
    stage.addEventListener("wheel", (event) => {
      event.preventDefault();
      const box = stage.getBoundingClientRect();
      this.zoom(Math.exp(-event.deltaY * 0.0016), event.clientX - box.left, event.clientY - box.top);
    }, { passive: false });
    this.listenToDragging();
  }

  // A press that moves drags; one that stays is a click on a pixel: onpixel([row, column]).
  listenToDragging() {
    let from = null;
    this.stage.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || event.target.closest("button") || !this.size) return;
      from = { x: event.clientX, y: event.clientY, left: this.left, top: this.top, moved: false };
      this.stage.setPointerCapture(event.pointerId);
    });
    this.stage.addEventListener("pointermove", (event) => {
      if (!from) return;
      const [dx, dy] = [event.clientX - from.x, event.clientY - from.y];
      from.moved ||= Math.hypot(dx, dy) > 4;
      if (!from.moved) return;
      this.stage.classList.add("moving");
      this.place(this.scale, from.left + dx, from.top + dy);
    });
    const end = (event) => {
      if (from && !from.moved && event.type === "pointerup") this.onpixel?.(this.pixelAt(event.clientX, event.clientY));
      from = null;
      this.stage.classList.remove("moving");
    };
    this.stage.addEventListener("pointerup", end);
    this.stage.addEventListener("pointercancel", end);
  }

  async load(url, height, width) {
    this.size = null;
    this.photo.hidden = true;
    this.photo.src = url;
    await this.photo.decode();
    if (this.photo.naturalWidth !== width || this.photo.naturalHeight !== height)
      throw new Error(`This browser shows the picture at ${this.photo.naturalWidth}×${this.photo.naturalHeight}, it is ${width}×${height}. Points would be wrong.`);
    this.size = [height, width];
    this.photo.hidden = false;
    this.fit();
  }

  clear() {
    this.size = null;
    this.photo.hidden = true;
    this.show({});
  }

  show(points) {
    this.points = points;
    this.cross = null;
    this.draw();
  }

  pixelAt(clientX, clientY) {
    const box = this.stage.getBoundingClientRect();
    const row = Math.floor((clientY - box.top - this.top) / this.scale);
    const column = Math.floor((clientX - box.left - this.left) / this.scale);
    return row >= 0 && column >= 0 && row < this.size[0] && column < this.size[1] ? [row, column] : null;
  }

  fit() {
    this.fitted = true;
    if (!this.size) return;
    const [w, h] = [this.stage.clientWidth, this.stage.clientHeight];
    const scale = Math.min(w / this.size[1], h / this.size[0]);
    this.place(scale, (w - this.size[1] * scale) / 2, (h - this.size[0] * scale) / 2, true);
  }

  zoom(factor, x = this.stage.clientWidth / 2, y = this.stage.clientHeight / 2) {
    if (!this.size) return;
    const whole = Math.min(this.stage.clientWidth / this.size[1], this.stage.clientHeight / this.size[0]);
    const scale = Math.min(Math.max(this.scale * factor, whole / 2), Math.max(24, whole));
    const grown = scale / this.scale;
    this.place(scale, x - (x - this.left) * grown, y - (y - this.top) * grown);
  }

  lookAt([row, column]) {
    if (!this.size) return;
    const [w, h] = [this.stage.clientWidth, this.stage.clientHeight];
    const scale = Math.max(2, 3 * Math.min(w / this.size[1], h / this.size[0]));
    this.place(scale, w / 2 - (column + 0.5) * scale, h / 2 - (row + 0.5) * scale);
  }

  move(dx, dy) {
    this.place(this.scale, this.left + dx, this.top + dy);
  }

  // The middle of the stage never leaves the picture.
  place(scale, left, top, fitted = false) {
    if (!this.size) return;
    const [w, h] = [this.stage.clientWidth / 2, this.stage.clientHeight / 2];
    this.scale = scale;
    this.left = Math.min(w, Math.max(w - this.size[1] * scale, left));
    this.top = Math.min(h, Math.max(h - this.size[0] * scale, top));
    this.fitted = fitted;
    this.draw();
  }

  draw() {
    this.photo.style.transform = `translate(${this.left}px, ${this.top}px) scale(${this.scale})`;
    this.photo.classList.toggle("pixels", this.scale * devicePixelRatio > 3);
    const parts = this.size ? Object.entries(this.points).map(([name, point]) => this.mark(name, point)) : [];
    if (this.cross && this.size) parts.push(this.crossMark(this.cross));
    this.marks.replaceChildren(...parts);
  }

  screen([row, column]) {
    return [this.left + (column + 0.5) * this.scale, this.top + (row + 0.5) * this.scale];
  }

  mark(name, point) {
    const [x, y] = this.screen(point);
    const group = element("g", { class: name });
    for (const kind of ["halo", "ring"])
      group.append(name === "first"
        ? element("circle", { class: kind, cx: x, cy: y, r: RING })
        : element("path", { class: kind, d: `M${x} ${y - RING - 4}L${x + RING + 4} ${y}L${x} ${y + RING + 4}L${x - RING - 4} ${y}Z` }));
    group.append(element("circle", { class: "dot", cx: x, cy: y, r: 2.5 }));
    const right = x < this.stage.clientWidth - 40;
    const text = element("text", { x: x + (right ? 20 : -20), y: y - 12 < 14 ? y + 24 : y - 12, "text-anchor": right ? "start" : "end" });
    text.textContent = name === "first" ? "A" : "B";
    group.append(text);
    return group;
  }

  crossMark(point) {
    const [x, y] = this.screen(point);
    const d = `M${x - 22} ${y}h17M${x + 5} ${y}h17M${x} ${y - 22}v17M${x} ${y + 5}v17`;
    const group = element("g", {});
    group.append(element("path", { class: "cross halo", d }), element("path", { class: "cross", d }));
    return group;
  }

  // The surroundings of a point, magnified, with a ring around the exact pixel.
  loupe(canvas, point, colour) {
    const context = canvas.getContext("2d");
    const side = canvas.width;
    context.fillStyle = "#14181c";
    context.fillRect(0, 0, side, side);
    if (!point || !this.size) return;
    const span = Math.max(24, Math.round(Math.min(...this.size) / 12));
    context.imageSmoothingEnabled = side / span < 4;
    context.drawImage(this.photo, point[1] + 0.5 - span / 2, point[0] + 0.5 - span / 2, span, span, 0, 0, side, side);
    for (const [style, width] of [["#000b", 10], [colour, 5]]) {
      context.strokeStyle = style;
      context.lineWidth = width;
      context.beginPath();
      context.arc(side / 2, side / 2, Math.max(13, side / span), 0, 7);
      context.stroke();
    }
  }
}

function element(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}
